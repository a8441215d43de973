"""Sums that nodes measure of their training images; they add up, so the split among nodes does not matter.

Embeddings are summed by class. Beside them, three numbers of an image that need no network find images unlike the
training images; they also detect noise that an embedding cannot tell from an image.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fl_app.classification.network import Classifier, embed
from fl_app.data.images import ImageSet
from fl_app.data.loading import iterate
from fl_app.errors import FlAppError

Array = NDArray[np.float64]
Moments = Mapping[str, NDArray[np.float64]]

SUMS_SHAPE = (4, 4)  # of `picture_sums`

_BATCH_SIZE = 256
_STEP = 1.0 / 255.0  # a grey level; smaller differences are rounding
_LARGEST = 10.0  # bound of the absolute value of each of a picture's numbers
_ROUNDING = 1e-9


def blank_moments(num_classes: int, embedding_size: int) -> dict[str, NDArray[np.float64]]:
    """Return the moments of zero images: same keys and shapes as all moments, all zeros.

    Returns:
        `count` [K] images; `sum` [K, D] = sum of f; `outer` [D, D] = sum of f f^T over all classes;
        `withheld` [K], 1 if a class was left out because it has too few images; `picture` [4, 4], from
        `picture_sums`.
    """
    return {
        "count": np.zeros(num_classes),
        "sum": np.zeros((num_classes, embedding_size)),
        "outer": np.zeros((embedding_size, embedding_size)),
        "withheld": np.zeros(num_classes),
        "picture": np.zeros(SUMS_SHAPE),
    }


@torch.no_grad()
def measure_moments(
    model: Classifier, images: ImageSet, device: torch.device, min_class_count: int
) -> dict[str, NDArray[np.float64]]:
    """Sum the embeddings f of a node's images in eval mode, and the images' `picture_sums`, without augmentation.

    Args:
        model: on the device; left in eval mode.
        images: a node's training images; zero images give zeros.
        device: where to compute; sums are taken in float64 on the host.
        min_class_count: a class with fewer images is left out of every sum and marked in `withheld`. 0 and 1
            leave out none.

    Returns:
        As `blank_moments`.

    Raises:
        FlAppError: an embedding is not finite.
    """
    moments = blank_moments(len(images.class_names), model.embedding_size)
    counts = images.class_counts()
    is_withheld = (counts > 0) & (counts < min_class_count)
    moments["withheld"] += is_withheld.cpu().numpy()
    kept = images.select(torch.nonzero(~is_withheld[images.labels]).flatten())
    moments["picture"] += picture_sums(kept.images)
    classes = np.eye(len(images.class_names))
    model.eval()
    for batch in iterate(kept, _BATCH_SIZE, device):
        f = embed(model, batch.images)
        if not np.isfinite(f).all():
            raise FlAppError("An embedding is not finite: the network has diverged. Lower the learning rate.")
        members = classes[batch.labels.cpu().numpy()]
        moments["count"] += members.sum(axis=0)
        moments["sum"] += members.T @ f
        moments["outer"] += f.T @ f
    return moments


def pool(parts: Iterable[Moments]) -> dict[str, NDArray[np.float64]]:
    """Add the moments of sites, and the sums over sites of their means.

    Two pooled results add up key by key to the pool of all their sites. A part without `picture`, from an
    older version, counts as zeros.

    Returns:
        The keys of `blank_moments`, added; `site-outer` [K, D, D] = sum over sites of s s^T / n, with a site's sum s
        and count n of the class; `num-sites` [K], the sites that hold the class.

    Raises:
        ValueError: there are no parts, or two of different shapes.
    """
    total: dict[str, NDArray[np.float64]] = {}
    for part in parts:
        is_held = part["count"] > 0
        scaled = np.zeros_like(part["sum"], dtype=np.float64)
        scaled[is_held] = part["sum"][is_held] / np.sqrt(part["count"][is_held])[:, None]
        one = {
            "picture": np.zeros(SUMS_SHAPE),
            **{key: np.array(value, dtype=np.float64) for key, value in part.items()},
            "site-outer": scaled[:, :, None] * scaled[:, None, :],
            "num-sites": is_held.astype(np.float64),
        }
        if not total:
            total = one
            continue
        if {key: value.shape for key, value in total.items()} != {key: value.shape for key, value in one.items()}:
            raise ValueError("moments with other keys or shapes cannot be pooled")
        for key, value in one.items():
            total[key] += value
    if not total:
        raise ValueError("no moments to pool; the moments of zero images are `blank_moments`")
    return total


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


def without_lone_sites(pooled: Moments) -> dict[str, NDArray[np.float64]]:
    """Return pooled moments with a `site-outer` of zeros for each class that one site holds.

    It would be one site's moment. `with_lone_sites` computes it anew, from what every prototype needs.
    """
    is_lone = pooled["num-sites"] == 1
    return {**pooled, "site-outer": np.where(is_lone[:, None, None], 0.0, pooled["site-outer"])}


def with_lone_sites(pooled: Moments) -> dict[str, NDArray[np.float64]]:
    """Return pooled moments with the `site-outer` of each class that one site holds: s s^T / n, the same bits."""
    is_lone, count = pooled["num-sites"] == 1, pooled["count"]
    scaled = pooled["sum"] / np.sqrt(np.where(count > 0, count, 1.0))[:, None]
    outer = scaled[:, :, None] * scaled[:, None, :]
    return {**pooled, "site-outer": np.where(is_lone[:, None, None], outer, pooled["site-outer"])}
