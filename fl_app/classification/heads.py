"""Heads: what turns an embedding into a class, each of them an affine map built from moments.

With n_c images of class c, P_c their mean embedding (the prototype) and S the covariance within classes:

| head           | score of class c                                         | source                               |
|----------------|----------------------------------------------------------|--------------------------------------|
| `linear`       | w_c.f + b_c, the network's own layer                     |                                      |
| `nearest-mean` | -|f - P_c|^2 / 2 s^2, s^2 = tr S / D                     | Qiao et al. 2023                     |
| `cosine`       | f.P_c / |f||P_c|, over a temperature                     |                                      |
| `lda`          | P_c' S^-1 f - P_c' S^-1 P_c / 2 + log n_c / n            | Fisher's discriminant                |
| `fedcof`       | w_c.f, w_c = S*^-1 P_c normalised, S* from sites' means  | Goswami et al. 2024, arXiv 2412.14326 |

A class that nobody holds has the score minus infinity.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Floats = NDArray[np.float64]

HEADS = ("linear", "nearest-mean", "cosine", "lda", "fedcof")

_TEMPERATURE = 0.1  # of the cosine, as in contrastive learning: it changes probabilities, and no decision
_SMALLEST_PIVOT = 1e-10  # of a variance over the mean variance: below it a matrix counts as singular


class _NotDefined(Exception):
    """A head cannot be built; the text says why."""


@dataclass(frozen=True)
class Head:
    """An affine map from embeddings to scores.

    Attributes:
        weight: [K, D] float64.
        bias: [K] float64; minus infinity excludes a class.
        normalise: embeddings are divided by their length first.
    """

    weight: Floats
    bias: Floats
    normalise: bool = False

    def scores(self, features: Floats) -> Floats:
        """Return the scores [B, K] float64 of embeddings [B, D]; the largest wins, see `predict`."""
        f = np.asarray(features, dtype=np.float64)
        if self.normalise:
            length = np.linalg.norm(f, axis=1, keepdims=True)
            f = f / np.where(length > 0, length, 1.0)
        return np.asarray(f @ self.weight.T + self.bias)


def predict(scores: Floats) -> NDArray[np.int64]:
    """Return the class with the largest score, the smallest of several such classes: [B]."""
    return np.asarray(scores.argmax(axis=1), dtype=np.int64)


def linear_head(weight: Floats, bias: Floats, held: Sequence[bool]) -> Head:
    """Return the network's own layer as a head, without the classes that nobody holds."""
    return _head(np.asarray(weight, dtype=np.float64), np.asarray(bias, dtype=np.float64), np.asarray(held))


def build_heads(pooled: Mapping[str, Floats], shrinkage: float) -> tuple[dict[str, Head], dict[str, str]]:
    """Build every head that moments allow.

    Args:
        pooled: from `moments.pool`.
        shrinkage: share of the mean variance that is added to every variance of a covariance before it is inverted.

    Returns:
        The heads by name, without `linear`; and for each head that is not defined the reason.
    """
    heads: dict[str, Head] = {}
    reasons: dict[str, str] = {}
    builders = {"nearest-mean": _nearest_mean, "cosine": _cosine, "lda": _lda, "fedcof": _fedcof}
    for name, build in builders.items():
        try:
            if not (pooled["count"] > 0).any():
                raise _NotDefined("no site sent the moments of any class")
            heads[name] = build(pooled, shrinkage)
        except _NotDefined as reason:
            reasons[name] = str(reason)
    return heads, reasons


def prototypes(pooled: Mapping[str, Floats]) -> Floats:
    """Return the mean embedding of each class, [K, D]; 0 for a class without images, which is never to be used."""
    return np.asarray(pooled["sum"] / np.maximum(pooled["count"], 1.0)[:, None])


def nearest_distance(means: Floats, held: NDArray[np.bool_], features: Floats) -> Floats:
    """Return the Euclidean distance [B] of embeddings [B, D] to the nearest prototype [K, D] of a held class."""
    centers = means[held]
    squares = (features**2).sum(1)[:, None] - 2.0 * features @ centers.T + (centers**2).sum(1)
    return np.asarray(np.sqrt(np.maximum(squares.min(axis=1), 0.0)))


def _head(weight: Floats, bias: Floats, held: NDArray[np.bool_], normalise: bool = False) -> Head:
    return Head(np.where(held[:, None], weight, 0.0), np.where(held, bias, -np.inf), normalise)


def _within(pooled: Mapping[str, Floats]) -> Floats:
    """Return the covariance within classes, [D, D]: (G - sum n_c P_c P_c') / n."""
    count, means = pooled["count"], prototypes(pooled)
    scatter = pooled["outer"] - (means * count[:, None]).T @ means
    return np.asarray((scatter + scatter.T) / (2.0 * count.sum()))


def _nearest_mean(pooled: Mapping[str, Floats], _shrinkage: float) -> Head:
    means = prototypes(pooled)
    variance = float(np.trace(_within(pooled))) / means.shape[1]
    scale = 1.0 / variance if variance > 0 else 1.0
    return _head(means * scale, -0.5 * scale * (means**2).sum(axis=1), pooled["count"] > 0)


def _cosine(pooled: Mapping[str, Floats], _shrinkage: float) -> Head:
    means = prototypes(pooled)
    length = np.linalg.norm(means, axis=1, keepdims=True)
    directions = means / np.where(length > 0, length, 1.0) / _TEMPERATURE
    return _head(directions, np.zeros(len(means)), pooled["count"] > 0, normalise=True)


def _lda(pooled: Mapping[str, Floats], shrinkage: float) -> Head:
    means, count = prototypes(pooled), pooled["count"]
    weight = _solve(_shrunk(_within(pooled), shrinkage), means.T).T
    priors = np.where(count > 0, count, 1.0) / count.sum()
    bias = -0.5 * (weight * means).sum(axis=1) + np.log(priors)
    return _head(weight, bias, count > 0)


def _fedcof(pooled: Mapping[str, Floats], shrinkage: float) -> Head:
    """Build the ridge classifier on covariances that the sites' means alone give.

    The mean of n_kc draws varies by S_c / n_kc, so that sum_k n_kc (m_kc - m_c)(m_kc - m_c)' / (sites_c - 1) estimates
    S_c without bias (their eq. 8). As in the paper the scatter between classes is left out, and the weights of each
    class are scaled to length 1. A class that one site holds alone tells nothing of its spread and borrows the others'.
    """
    means, count, sites = prototypes(pooled), pooled["count"], pooled["num-sites"]
    spread = pooled["site-outer"] - count[:, None, None] * np.einsum("kd,ke->kde", means, means)
    told = sites >= 2
    if not told.any():
        raise _NotDefined("no class is held by two sites, so that their means say nothing of its spread")
    covariances = spread[told] / (sites[told] - 1.0)[:, None, None]
    degrees = np.maximum(count[told] - 1.0, 1.0)
    within = np.einsum("k,kde->de", degrees / degrees.sum(), covariances)
    weight = _solve(_shrunk((within + within.T) / 2.0, shrinkage), means.T).T
    length = np.linalg.norm(weight, axis=1, keepdims=True)
    return _head(weight / np.where(length > 0, length, 1.0), np.zeros(len(means)), count > 0)


def _shrunk(covariance: Floats, shrinkage: float) -> Floats:
    variance = max(float(np.trace(covariance)), 0.0) / len(covariance)
    return np.asarray(covariance + shrinkage * variance * np.eye(len(covariance)))


def _solve(covariance: Floats, right: Floats) -> Floats:
    """Return covariance^-1 right; raises _NotDefined where the covariance is singular, shrunk as it is."""
    mean_variance = float(np.trace(covariance)) / len(covariance)
    values, vectors = linalg.eigh(covariance)
    if mean_variance <= 0 or values[0] <= _SMALLEST_PIVOT * mean_variance:
        raise _NotDefined(
            "the covariance within classes is singular: too few images, or 'classification.shrinkage' is 0"
        )
    return np.asarray((vectors / values) @ (vectors.T @ right))
