"""Three numbers of an image that need no network, to find images unlike the training images.

Their sums add up over nodes. They also detect noise that an embedding cannot tell from an image.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

SUMS_SHAPE = (4, 4)

_BATCH_SIZE = 256
_STEP = 1.0 / 255.0  # a grey level; smaller differences are rounding
_LARGEST = 10.0  # bound of each number's absolute value
_ROUNDING = 1e-9


def picture_numbers(images: Tensor) -> Array:
    """Return brightness, log contrast and log roughness of each image: [N, 3].

    Brightness is the mean and contrast the standard deviation of the pixels, black 0 and white 1, channels averaged.
    Roughness is half the mean square difference of neighbours, down plus right, over the variance: 2 for noise, less
    for a smooth image.

    Args:
        images: [N, C, H, W] uint8.
    """
    parts = [_numbers(part) for part in images.split(_BATCH_SIZE)] if len(images) else []
    return np.concatenate([np.zeros((0, SUMS_SHAPE[0] - 1)), *parts])


def picture_sums(images: Tensor) -> Array:
    """Return the sum of u u^T over images, u = (1, the three numbers): [4, 4], with the count of images at [0, 0]."""
    u = _with_one(picture_numbers(images))
    return np.asarray(u.T @ u)


def are_sums_of_pictures(sums: Array, count: float) -> bool:
    """Return whether images could have produced these `picture_sums`; `sums`: [4, 4], finite."""
    bright, squares = sums[0, 1], np.diagonal(sums)[1:]
    slack = _ROUNDING * abs(float(np.trace(sums)))
    if sums[0, 0] != count or (np.abs(sums - sums.T) > slack).any():
        return False
    is_gram = float(np.linalg.eigvalsh((sums + sums.T) / 2.0)[0]) >= -slack
    return bool(is_gram and (squares <= count * _LARGEST**2).all() and squares[0] - slack <= bright <= count + slack)


def picture_map(sums: Array) -> Array | None:
    """Return the linear map of u after which its length is the Mahalanobis distance from the images of these sums.

    A grey level squared is added to the variances, so that the map also exists if all images are alike.

    Args:
        sums: from `picture_sums`, added over nodes.

    Returns:
        [4, 3]; None if the sums are of zero images.
    """
    if sums[0, 0] == 0:
        return None
    moments = sums / sums[0, 0]
    mean = moments[0, 1:]
    variances, axes = np.linalg.eigh(moments[1:, 1:] - np.outer(mean, mean))
    whitening = axes / np.sqrt(np.maximum(variances, 0.0) + _STEP**2)
    return np.vstack([-mean @ whitening, whitening])


def picture_distances(mapped_by: Array | None, images: Tensor) -> Array:
    """Return the distance, in standard deviations, of images from those of the sums: [N]; infinite if there are none.

    Args:
        mapped_by: from `picture_map`.
        images: [N, C, H, W] uint8.
    """
    if mapped_by is None:
        return np.full(len(images), np.inf)
    return np.asarray(np.linalg.norm(_with_one(picture_numbers(images)) @ mapped_by, axis=1))


def _numbers(images: Tensor) -> Array:
    grey = images.cpu().to(torch.float64).mean(dim=1) / 255.0
    steps = (_mean_square(grey[:, 1:] - grey[:, :-1]) + _mean_square(grey[:, :, 1:] - grey[:, :, :-1])) / 2.0
    variance = grey.var(dim=(1, 2), correction=0)
    contrast = torch.log(variance + _STEP**2) / 2.0
    roughness = torch.log((steps + _STEP**2) / (variance + _STEP**2))
    return np.asarray(torch.stack([grey.mean(dim=(1, 2)), contrast, roughness], dim=1).numpy())


def _mean_square(differences: Tensor) -> Tensor:
    """Return the mean over [B, H, W] of each image: [B]; 0 for an image of one row, which has no differences."""
    return differences.square().sum(dim=(1, 2)) / max(differences[0].numel(), 1)


def _with_one(numbers: Array) -> Array:
    return np.hstack([np.ones((len(numbers), 1)), numbers])
