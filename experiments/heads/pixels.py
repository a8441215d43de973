"""Three numbers of a picture that need no network: brightness, contrast, roughness."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

_STEP = 1.0 / 255.0  # a grey level, below which nothing varies


def statistics(images: Tensor) -> Array:
    """Return brightness, log contrast and log roughness of each image: [N, 3].

    Brightness is the mean and contrast the standard deviation of the pixels, black 0 and white 1, channels averaged.
    Roughness is the mean square difference of neighbours over the variance: 2 for noise, little for what is smooth.

    Args:
        images: [N, C, H, W] uint8.
    """
    grey = images.to(torch.float64).mean(dim=1) / 255.0
    down, right = grey[:, 1:] - grey[:, :-1], grey[:, :, 1:] - grey[:, :, :-1]
    steps = (down.square().mean(dim=(1, 2)) + right.square().mean(dim=(1, 2))) / 2.0
    variance = grey.var(dim=(1, 2), correction=0)
    contrast = torch.log(variance + _STEP**2) / 2.0
    roughness = torch.log((steps + _STEP**2) / (variance + _STEP**2))
    return np.asarray(torch.stack([grey.mean(dim=(1, 2)), contrast, roughness], dim=1).numpy())


def distances(values: Array, count: float, total: Array, outer: Array) -> Array:
    """Return how many standard deviations images are from the training images: [N], Mahalanobis.

    Args:
        values: [N, 3], from `statistics`.
        count: of the training images.
        total: [3], the sum of their statistics v.
        outer: [3, 3], the sum of v v^T. All three add up over nodes.
    """
    mean = total / count
    covariance = outer / count - np.outer(mean, mean)
    spread, vectors = np.linalg.eigh(covariance)
    return np.asarray(np.linalg.norm((values - mean) @ (vectors / np.sqrt(spread)), axis=1))
