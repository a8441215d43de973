"""Figures of generated images beside real ones, from sums that each site computes over features of its images.

Only the Fréchet distance equals the one of all images in one place. The kernel distance and the neighbour figures of
several sites are means over the sites: each site compares the generated images with its own real ones.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.spatial.distance import cdist

from fl_app.sums import Sums, mean

Array = NDArray[np.float64]

NUM_NEIGHBOURS = 5  # k of Naeem et al. 2020

_BLOCK = 2**22  # distances, or values of a kernel, in memory at a time: 32 MiB
_LARGEST = 1e150  # number that can be squared
_INSIDE, _RECALLED, _BALLS, _COVERED, _REAL, _GENERATED = range(6)  # of `neighbour_sums`


@dataclass(frozen=True)
class KernelDistance:
    """Mean of the sites' kernel distances.

    Attributes:
        value: unbiased, so that it may be below 0.
        error: its standard error over real images; the generated images are taken as given.
        num_real: images of the sites that count.
        num_generated: images that these sites compared with; images seen by several sites count once for each.
        num_sites: with at least two real and two generated images.
    """

    value: float
    error: float
    num_real: int
    num_generated: int
    num_sites: int


def feature_sums(features: Array, labels: NDArray[np.int64], num_classes: int) -> dict[str, Array]:
    """Sum up the features of images by class.

    Args:
        features: [N, D].
        labels: [N], in [0, K).
        num_classes: K.

    Returns:
        `count` [K], `sum` [K, D] and `outer` [K, D, D], the sum of f f^T: they add up over sites. The sums over K are
        those of all classes.
    """
    f = np.asarray(features, dtype=np.float64)
    outer = np.zeros((num_classes, f.shape[1], f.shape[1]))
    total = np.zeros((num_classes, f.shape[1]))
    for label in np.unique(labels):
        of_class = f[labels == label]
        total[label], outer[label] = of_class.sum(axis=0), of_class.T @ of_class
    return {"count": np.bincount(labels, minlength=num_classes).astype(np.float64), "sum": total, "outer": outer}


def frechet_distance(real: Sums, generated: Sums, label: int | None = None) -> float | None:
    """Return ||m_r - m_g||^2 + tr(C_r + C_g - 2 (C_r C_g)^(1/2)) (Heusel et al. 2017, eq. 6).

    The covariances divide by n - 1. The trace of the root is the sum of the singular values of C_r^(1/2) C_g^(1/2):
    with fewer images than features, the eigenvalues of C_r C_g that should be 0 would add the roots of their rounding
    errors.

    Args:
        real: added `feature_sums`.
        generated: added `feature_sums` of the same features.
        label: of one class; None: all classes together.

    Returns:
        None if a side has fewer than two images, or numbers too large to compute with.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        sides = [_moments(sums, label) for sums in (real, generated)]
        if min(count for count, _, _ in sides) < 2:
            return None
        centers = [total / count for count, total, _ in sides]
        covariances = [
            (outer - count * np.outer(center, center)) / (count - 1.0)
            for (count, _, outer), center in zip(sides, centers, strict=True)
        ]
        distance = ((centers[0] - centers[1]) ** 2).sum() + sum(np.trace(one) for one in covariances)
        if not all(np.abs(one).max(initial=0.0) < _LARGEST for one in (distance, *covariances)):  # false of NaN, too
            return None
        roots = [
            _root(one, float(np.trace(outer)) / count, count)
            for one, (count, _, outer) in zip(covariances, sides, strict=True)
        ]
        if min(root.shape[1] for root in roots) > 0:
            distance -= 2.0 * linalg.svdvals(roots[0].T @ roots[1]).sum()
    return float(max(distance, 0.0))


def _moments(sums: Sums, label: int | None) -> tuple[float, Array, Array]:
    """Return count, sum [D] and outer [D, D] of one class or of all."""
    count, total, outer = (
        sums[key].sum(axis=0) if label is None else sums[key][label] for key in ("count", "sum", "outer")
    )
    return float(count), total, outer


def _root(covariance: Array, square: float, count: float) -> Array:
    """Return R, [D, rank], with R R^T = C; eigenvalues within the rounding of the sums are taken as 0.

    Args:
        covariance: C, [D, D].
        square: mean squared length of a feature vector; the rounding along their mean grows with it.
        count: n, images.
    """
    values, vectors = linalg.eigh(covariance)
    rounding = np.finfo(np.float64).eps * square * (10.0 + math.sqrt(count / max(len(values), 1)))
    is_kept = values > max(rounding, 0.0)
    return np.asarray(vectors[:, is_kept] * np.sqrt(values[is_kept]))


def kernel_sums(real: Array, generated: Array) -> dict[str, Array]:
    """Return the means of the kernel (x.y / D + 1)^3 at one site (Bińkowski et al. 2018, unbiased).

    Args:
        real: features of real images, [N, D].
        generated: features of generated images, [M, D].

    Returns:
        Each [1]: `num-real` N; `num-generated` M; `real`, `generated`: the mean over ordered pairs of two different
        images; `cross`: the mean over pairs of a real and a generated image; `variance`: of real + generated - 2 cross
        by the jackknife over the real images. With two real images the jackknife holds `real` fixed. If a side has
        fewer than two images, all but the numbers are 0.
    """
    x, g = np.asarray(real, dtype=np.float64), np.asarray(generated, dtype=np.float64)
    n, m = len(x), len(g)
    found = dict.fromkeys(("real", "cross", "generated", "variance"), 0.0)
    if min(n, m) >= 2:
        of_real = _kernel_means(x, x) * (n / (n - 1)) - _kernel_diagonal(x) / (n - 1)
        of_generated = _kernel_means(g, g) * (m / (m - 1)) - _kernel_diagonal(g) / (m - 1)
        cross = _kernel_means(x, g)
        # leaving image i out moves the distance by -2 / (n - 1) times its deviation from the mean of these
        pulls = (of_real - of_real.mean()) * ((n - 1) / max(n - 2, 1)) - (cross - cross.mean())
        found = {
            "real": of_real.mean(),
            "cross": cross.mean(),
            "generated": of_generated.mean(),
            "variance": 4.0 * (pulls**2).sum() / (n * (n - 1)),
        }
    numbers = {"num-real": float(n), "num-generated": float(m)}
    return {key: np.array([float(value)]) for key, value in (numbers | found).items()}


def _kernel_means(a: Array, b: Array) -> Array:
    """Return the mean kernel of each row of `a` with all rows of `b`: [len(a)]."""
    means = [((a[part] @ b.T / a.shape[1] + 1.0) ** 3).mean(axis=1) for part in _blocks(len(a), len(b))]
    return np.concatenate(means)


def _kernel_diagonal(a: Array) -> Array:
    """Return the kernel of each row with itself: [len(a)]."""
    return np.asarray(((a**2).sum(axis=1) / a.shape[1] + 1.0) ** 3)


def kernel_distance(parts: Mapping[str, Sums]) -> KernelDistance | None:
    """Return the mean of the sites' unbiased kernel distances, weighted by their pairs of a real and a generated image.

    If all sites compare with the same generated images, it differs from the distance of all real images in one place
    only by the real images' kernel among themselves. No generator changes that term, so both rank generators alike
    (arXiv 2310.11714).

    Args:
        parts: `kernel_sums` of each site.

    Returns:
        None if no site has two real and two generated images.
    """
    counted = [part for part in parts.values() if min(part["num-real"][0], part["num-generated"][0]) >= 2]
    if not counted:
        return None
    real, generated = (np.array([part[key][0] for part in counted]) for key in ("num-real", "num-generated"))
    weights = real * generated / (real * generated).sum()
    values = np.array([part["real"][0] + part["generated"][0] - 2.0 * part["cross"][0] for part in counted])
    variances = np.array([max(part["variance"][0], 0.0) for part in counted])
    return KernelDistance(
        value=float(weights @ values),
        error=math.sqrt(float(weights**2 @ variances)),
        num_real=int(real.sum()),
        num_generated=int(generated.sum()),
        num_sites=len(counted),
    )


def neighbour_sums(real: Array, generated: Array, k: int = NUM_NEIGHBOURS) -> dict[str, Array]:
    """Count which images lie in whose ball, for `neighbour_figures`.

    An image's ball reaches to its k-th nearest neighbour, itself not counted, on its own side; its border belongs to
    it. The time grows with the square of the number of images.

    Args:
        real: features of real images, [N, D].
        generated: features of generated images, [M, D].
        k: neighbours.

    Returns:
        `counts` [6]: generated images in at least one real ball; real images in at least one generated ball; pairs of
        a generated image and a real ball that holds it; real balls that hold a generated image; N; M. All are 0 if a
        side has k images or fewer.
    """
    x, g = np.asarray(real, dtype=np.float64), np.asarray(generated, dtype=np.float64)
    counts = np.zeros(6)
    if min(len(x), len(g)) <= k:
        return {"counts": counts}
    real_radii, generated_radii = _radii(x, k), _radii(g, k)
    is_inside = np.zeros(len(g), dtype=np.bool_)
    for part in _blocks(len(x), len(g)):
        distances = cdist(x[part], g, "sqeuclidean")
        holds = distances <= real_radii[part, None]
        is_inside |= holds.any(axis=0)
        counts[_RECALLED] += (distances <= generated_radii).any(axis=1).sum()
        counts[_BALLS] += holds.sum()
        counts[_COVERED] += holds.any(axis=1).sum()
    counts[[_INSIDE, _REAL, _GENERATED]] = is_inside.sum(), len(x), len(g)
    return {"counts": counts}


def neighbour_figures(total: Sums, k: int = NUM_NEIGHBOURS) -> dict[str, float | None]:
    """Compute precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    Of several sites each figure is a mean: for precision and density over the generated images of each site, for recall
    and coverage over the real ones. All depend on the number of images.

    Args:
        total: `neighbour_sums`, added over sites.
        k: as in `neighbour_sums`.

    Returns:
        Each None if nothing was counted.
    """
    counts = total["counts"]
    return {
        "precision": mean(counts[_INSIDE], counts[_GENERATED]),
        "recall": mean(counts[_RECALLED], counts[_REAL]),
        "density": mean(counts[_BALLS], k * counts[_GENERATED]),
        "coverage": mean(counts[_COVERED], counts[_REAL]),
    }


def _radii(features: Array, k: int) -> Array:
    """Return the squared distance of each image to its k-th nearest neighbour, itself not counted: [N]."""
    radii = np.empty(len(features))
    for part in _blocks(len(features), len(features)):
        distances = cdist(features[part], features, "sqeuclidean")
        distances[np.arange(len(distances)), np.arange(part.start, part.start + len(distances))] = np.inf
        radii[part] = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return radii


def _blocks(num_rows: int, num_columns: int) -> Iterator[slice]:
    """Yield slices of the rows of a matrix so that a block of it stays within `_BLOCK` numbers."""
    length = max(1, _BLOCK // max(num_columns, 1))
    for start in range(0, num_rows, length):
        yield slice(start, min(start + length, num_rows))
