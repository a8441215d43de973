"""Heads: functions from an embedding to a class, most of them built from pooled moments without training.

f is an embedding [D], P_c and n_c a class's mean and count, n = sum n_c, and W = sum of (f - P_c)(f - P_c)^T over all
images, the scatter within the classes. A class that no site holds is excluded: its score is minus infinity, since a
zero prototype would win after a ReLU.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fl_app.errors import FlAppError
from fl_app.plugins import built_in, load

log = logging.getLogger(__name__)

HEADS = ("linear", *built_in("heads"))

# Cosines of embeddings after a ReLU differ by hundredths to tenths; the argmax does not depend on the temperature.
_COSINE_TEMPERATURE = 0.05
# Embeddings are float32: less than this share of the whole is rounding.
_ROUNDING = 1e-12

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Head:
    """An affine map from embeddings to scores.

    Attributes:
        weight: [K, D] float64; 0 for an excluded class.
        bias: [K] float64; minus infinity for an excluded class.
        normalise: whether embeddings are divided by their norm first.
    """

    weight: Array
    bias: Array
    normalise: bool = False

    def scores(self, features: NDArray[np.floating]) -> Array:
        """Return the score of each class, [B, K] float64; the largest wins; their softmax gives probabilities.

        Args:
            features: [B, D] embeddings.

        Raises:
            FlAppError: an embedding is not finite.
        """
        f = np.asarray(features, dtype=np.float64)
        if not np.isfinite(f).all():
            raise FlAppError("An embedding is not finite: the network has diverged or its weights are damaged.")
        if self.normalise:
            f = _unit_rows(f)
        return np.asarray(f @ self.weight.T + self.bias)


def predict(scores: Array) -> NDArray[np.int64]:
    """Return the class with the largest score, the smallest such class on ties: [B]; `scores`: [B, K]."""
    return np.asarray(np.argmax(scores, axis=1), dtype=np.int64)


def linear_head(weight: NDArray[np.floating], bias: NDArray[np.floating], held: Sequence[bool]) -> Head:
    """Return a network's last layer as a head, without the classes that no site holds.

    Args:
        weight: [K, D].
        bias: [K].
        held: of each class, whether any node has an image.

    Raises:
        FlAppError: no class is held.
    """
    is_held = np.asarray(held, dtype=bool)
    if not is_held.any():
        raise FlAppError("No node holds an image of any class, so no head can be built. Check the nodes' data.")
    return affine_head(np.asarray(weight, dtype=np.float64), np.asarray(bias, dtype=np.float64), is_held)


class NotDefinedError(Exception):
    """The moments do not determine a head; the text says why."""


# Builds a head from the pooled moments, `shrinkage` and `prior`: see `build_heads`. A plug-in of `fl_app.heads`; raises
# NotDefinedError, with the reason, if the moments do not determine it.
BuildHead = Callable[[Mapping[str, Array], float, str], Head]


def build_heads(
    pooled: Mapping[str, Array], shrinkage: float, prior: str = "training", further: Sequence[str] = ()
) -> tuple[dict[str, Head], dict[str, str]]:
    """Build every built-in head that needs no training, and further ones.

    Args:
        pooled: from `moments.pool`.
        shrinkage: `lda`, `fedcof`: the share of the mean variance that is added to every variance. 0 adds none; the
            heads are then defined only if there are more images (`fedcof`: sites) than embedding dimensions.
        prior: `lda`: prior probability of classes: `training`, their shares of the images, or `equal`. No other head
            has a prior.
        further: names of plug-ins.

    Returns:
        The heads by name, and the reason for each that is not defined.

    Raises:
        OptionError: there is no such plug-in, or it is not allowed.
    """
    heads: dict[str, Head] = {}
    reasons: dict[str, str] = {}
    for name in [*built_in("heads"), *further]:
        build: BuildHead = load("heads", name, "classification.heads")
        try:
            if not (pooled["count"] > 0).any():
                raise NotDefinedError("no class is held by any site")
            found = build(pooled, shrinkage, prior)
            if not isinstance(found, Head) or found.weight.shape != pooled["sum"].shape:
                raise NotDefinedError(f"what '{name}' builds is no Head of {list(pooled['sum'].shape)}")
            heads[name] = found
        except NotDefinedError as reason:
            reasons[name] = str(reason)
        except Exception as error:  # a plug-in's error must not end a run whose training is done
            if name not in further:
                raise
            log.exception("The head '%s' cannot be built", name)
            reasons[name] = f"building it failed with {type(error).__name__}"
    return heads, reasons


def distance_map(pooled: Mapping[str, Array], shrinkage: float, by: str) -> Array | None:
    """Return the linear map that turns abstention's distance into the Euclidean one.

    Args:
        pooled: from `moments.pool`.
        shrinkage: of the covariance, as for `lda`.
        by: `euclid`, or `mahalanobis`: sqrt((f - P)' S^-1 (f - P)) with the covariance S of `lda`.

    Returns:
        A with A A' = S^-1, [D, D]; None for `euclid`, and if S cannot be inverted.
    """
    if by == "euclid" or not (pooled["count"] > 0).any():
        return None
    try:
        return np.asarray(np.linalg.cholesky(_inverse(_covariance(pooled, shrinkage))), dtype=np.float64)
    except (NotDefinedError, np.linalg.LinAlgError):
        return None


def nearest_distance(
    prototypes: Array, held: NDArray[np.bool_], features: NDArray[np.floating], mapped_by: Array | None = None
) -> Array:
    """Return the distance to the nearest prototype of a held class: [B]; infinite if none is held.

    Args:
        prototypes: [K, D].
        held: [K].
        features: [B, D].
        mapped_by: from `distance_map`; None: Euclidean.
    """
    f, points = np.asarray(features, dtype=np.float64), prototypes[held]
    if mapped_by is not None:
        f, points = f @ mapped_by, points @ mapped_by
    nearest = np.full(len(f), np.inf)
    for point in points:
        np.minimum(nearest, np.linalg.norm(f - point, axis=1), out=nearest)
    return nearest


def nearest_mean(pooled: Mapping[str, Array], shrinkage: float, prior: str) -> Head:
    """-|f - P_c|^2 / (2 s^2) without |f|^2: the posterior of round Gaussians with variance s^2 = tr(W) / (n D)."""
    count, means = pooled["count"], class_means(pooled)
    variance = _mean_variance(_within_scatter(pooled) / count.sum(), pooled["outer"])
    if variance == 0.0:
        variance = 0.5  # the plain -|f - P_c|^2
    return affine_head(means / variance, -0.5 * (means**2).sum(axis=1) / variance, count > 0)


def cosine(pooled: Mapping[str, Array], shrinkage: float, prior: str) -> Head:
    """f.P_c / |f||P_c|, divided by a temperature; a zero vector has cosine 0 to all others."""
    weight = _unit_rows(class_means(pooled)) / _COSINE_TEMPERATURE
    return affine_head(weight, np.zeros(len(weight)), pooled["count"] > 0, normalise=True)


def lda(pooled: Mapping[str, Array], shrinkage: float, prior: str) -> Head:
    """P_c' S^-1 f - P_c' S^-1 P_c / 2 + log(n_c / n), with the S of `_covariance`; equal priors drop the last term."""
    count, means = pooled["count"], class_means(pooled)
    weight = means @ _inverse(_covariance(pooled, shrinkage))
    log_prior = np.log(np.where(count > 0, count, 1.0) / count.sum()) if prior == "training" else 0.0
    return affine_head(weight, log_prior - 0.5 * (weight * means).sum(axis=1), count > 0)


def fedcof(pooled: Mapping[str, Array], shrinkage: float, prior: str) -> Head:
    """Ridge regression on covariances estimated from the sites' means (Goswami et al. 2025, arXiv 2412.14326).

    A site's mean of n images scatters with 1/n of the covariance of one image, so that
    S_c = sum over sites of n_kc (m_kc - P_c)(m_kc - P_c)^T / (sites_c - 1) is an unbiased estimate of it. Then
    G = sum_c (n_c - 1)(S_c + ridge) + n m m^T, with m the mean of all images, without the scatter between
    classes, and each class's weight is G^-1 n_c P_c at unit length. The authors add a ridge of 1; here it is a share
    of the mean variance, and scores are counted in standard deviations within a class, so the embedding's unit does
    not matter.
    """
    count, means, num_sites = pooled["count"], class_means(pooled), pooled["num-sites"]
    is_known = num_sites > 1
    if not is_known.any():
        raise NotDefinedError("no class is held by two sites or more")
    between_sites = pooled["site-outer"] - count[:, None, None] * means[:, :, None] * means[:, None, :]
    covariances = between_sites[is_known] / (num_sites[is_known] - 1.0)[:, None, None]
    degrees = count[is_known] - 1.0
    scatter = np.tensordot(degrees, covariances, axes=1)
    variance = _mean_variance(scatter / degrees.sum(), pooled["outer"])
    if variance == 0.0:
        raise NotDefinedError("the sites' means of each class are the same")
    mean = pooled["sum"].sum(axis=0) / count.sum()
    ridge = shrinkage * variance * np.clip(count - 1.0, 0.0, None).sum()
    gram = scatter + ridge * np.eye(len(scatter)) + count.sum() * np.outer(mean, mean)
    weight = _unit_rows(pooled["sum"] @ _inverse(gram)) / np.sqrt(variance)
    return affine_head(weight, np.zeros(len(weight)), count > 0)


def affine_head(weight: Array, bias: Array, held: NDArray[np.bool_], normalise: bool = False) -> Head:
    """Return a head that excludes the classes that no site holds: weight [K, D], bias [K], held [K]."""
    return Head(np.where(held[:, None], weight, 0.0), np.where(held, bias, -np.inf), normalise)


def class_means(pooled: Mapping[str, Array]) -> Array:
    """Return P, [K, D]; 0 for a class without images, which `affine_head` excludes."""
    count = pooled["count"]
    return np.asarray(pooled["sum"] / np.where(count > 0, count, 1.0)[:, None])


def _within_scatter(pooled: Mapping[str, Array]) -> Array:
    means = class_means(pooled)
    return np.asarray(pooled["outer"] - (pooled["count"][:, None] * means).T @ means)


def _covariance(pooled: Mapping[str, Array], shrinkage: float) -> Array:
    """Return S = W / n + shrinkage tr(W) / (n D) I."""
    within = _within_scatter(pooled) / pooled["count"].sum()
    variance = _mean_variance(within, pooled["outer"])
    if variance == 0.0:
        raise NotDefinedError("the embeddings do not vary within any class; each may have one image only")
    return np.asarray(within + shrinkage * variance * np.eye(len(within)))


def _mean_variance(covariance: Array, outer: Array) -> float:
    """Return tr(covariance) / D; 0 if it is only rounding error of the moments it was computed from."""
    trace = float(np.trace(covariance))
    return trace / len(covariance) if trace > _ROUNDING * float(np.trace(outer)) else 0.0


def _inverse(matrix: Array) -> Array:
    values, vectors = np.linalg.eigh(matrix)
    if values[0] <= _ROUNDING * values[-1]:
        raise NotDefinedError("the covariance cannot be inverted; a larger 'classification.shrinkage' helps")
    return np.asarray((vectors / values) @ vectors.T)


def _unit_rows(rows: Array) -> Array:
    """Divide each row by its norm; a zero row stays zero."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1.0))


def to_arrays(heads: Mapping[str, Head]) -> dict[str, NDArray[np.generic]]:
    """Return the flat arrays of heads, for a message; a name may hold slashes."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, head in heads.items():
        arrays |= {f"{name}/weight": head.weight, f"{name}/bias": head.bias}
        arrays[f"{name}/normalise"] = np.array(head.normalise)
    return arrays


def from_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, Head]:
    """Restore the heads among the arrays that `to_arrays` returned and others."""
    names = [key.removesuffix("/weight") for key in arrays if key.endswith("/weight")]
    return {
        name: Head(
            arrays[f"{name}/weight"].astype(np.float64),
            arrays[f"{name}/bias"].astype(np.float64),
            bool(arrays[f"{name}/normalise"]),
        )
        for name in names
    }
