"""Fréchet distance between two sets of features, from sums that add up over nodes (Heusel et al. 2017)."""

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from fl_app.sums import Statistics


def feature_moments(features: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
    """Sum up features of M images.

    Args:
        features: [M, D].

    Returns:
        `count` [], `sum` [D], `outer` [D, D] = sum of f f^T; all float64 and additive.
    """
    f = np.asarray(features, dtype=np.float64)
    return {"count": np.array(float(len(f))), "sum": f.sum(axis=0), "outer": f.T @ f}


def frechet_distance(real: Statistics, generated: Statistics) -> float | None:
    """Return ||m_r - m_g||^2 + tr(C_r + C_g - 2 (C_r C_g)^(1/2)); None if a side has fewer than 2 images.

    The covariance divides by M - 1, as the common implementations do.
    """
    if real["count"] < 2 or generated["count"] < 2:
        return None
    mean_r, covariance_r = _mean_and_covariance(real)
    mean_g, covariance_g = _mean_and_covariance(generated)
    values, vectors = linalg.eigh(covariance_r)
    root_r = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T
    # The eigenvalues of C_r C_g are those of the symmetric C_r^(1/2) C_g C_r^(1/2), which need no complex numbers.
    eigenvalues = linalg.eigvalsh(root_r @ covariance_g @ root_r)
    cross = np.sqrt(np.clip(eigenvalues, 0.0, None)).sum()
    distance = ((mean_r - mean_g) ** 2).sum() + np.trace(covariance_r) + np.trace(covariance_g) - 2.0 * cross
    return float(max(distance, 0.0))


def _mean_and_covariance(moments: Statistics) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    count = float(moments["count"])
    center = moments["sum"] / count
    return center, (moments["outer"] - count * np.outer(center, center)) / (count - 1.0)
