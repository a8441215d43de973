"""Figures that compare generated images with real ones, from their features alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

K_MANIFOLD = 3  # precision and recall: Kynkäänniemi et al. 2019 use 3
K_COVERAGE = 5  # coverage: Naeem et al. 2020 use 5

Features = NDArray[np.float64]


@dataclass(frozen=True)
class Overlap:
    """How two sets of features overlap; each figure is a share in [0, 1].

    Attributes:
        precision: generated images that lie in the ball of a real one.
        recall: real images that lie in the ball of a generated one.
        coverage: real images whose ball holds a generated one.
    """

    precision: float
    recall: float
    coverage: float


def overlap(real: Features, generated: Features) -> Overlap:
    """Return precision and recall (Kynkäänniemi et al. 2019, k = 3) and coverage (Naeem et al. 2020, k = 5).

    An image's ball reaches to its k-th nearest neighbour in its own set. All three depend on the sizes of the sets.

    Args:
        real: [M, D], M > 5.
        generated: [N, D], N > 3.
    """
    between = cdist(real, generated)
    real_distances = _to_neighbours(real)
    manifold = real_distances[:, K_MANIFOLD]
    return Overlap(
        precision=float((between <= manifold[:, None]).any(axis=0).mean()),
        recall=float((between <= _to_neighbours(generated)[:, K_MANIFOLD]).any(axis=1).mean()),
        coverage=float((between.min(axis=1) <= real_distances[:, K_COVERAGE]).mean()),
    )


def within_class_std(pixels: Features, labels: NDArray[np.int64]) -> float:
    """Return the std of a pixel among the images of a class, its mean over pixels and classes, in the pixels' unit.

    Args:
        pixels: [N, D].
        labels: [N]; each class counts the same, however many images it has.
    """
    return float(np.mean([pixels[labels == label].std(axis=0).mean() for label in np.unique(labels)]))


def within_class_variance(pixels: Features, labels: NDArray[np.int64]) -> float:
    """Return the variance within a class, summed over the pixels, its mean over the classes.

    Args:
        pixels: [N, D].
        labels: [N].
    """
    return float(np.mean([pixels[labels == label].var(axis=0).sum() for label in np.unique(labels)]))


def _to_neighbours(features: Features) -> Features:
    """Return the sorted distances of each image to its set: [N, N]; column 0 is the image itself, column k its k-th."""
    return np.sort(cdist(features, features), axis=1)
