"""Nearest neighbours of generated images in a feature space: near copies, and ratios of distances, as additive sums.

A generated image is a near copy of a training image if it is much closer to it than to its other neighbours: the
criterion of Carlini et al. 2023 (arXiv:2301.13188), relative to the n nearest training images. Real sets have such
pairs, too, so held-out images, which were never trained on, are counted in the same way.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import betaln

Array = NDArray[np.float64]

SPACES = ("pixels", "unet")
# Of the mean distance of the n nearest. Carlini et al. take 0.5 with 50 neighbours of 50,000 images; of a site's few
# hundred images a quarter of the held-out ones would be near copies by that (docs/results.md).
DELTA = 0.3
MOST_NEIGHBOURS = 50
FEWEST_TRAIN = 12  # training images: of the mean of one or two neighbours the nearest one is too large a part
NUM_BINS = 16
_WIDEST = 2.0  # log2 of the ratio at the ends of the histogram; what lies outside goes to its first or last bin
MOST_LOG = 3.5  # natural logarithm of a ratio, 33: so one site cannot move the mean at will
_TINY = 1e-6  # times the mean distance: smaller distances count as this in a ratio
DRAWN = "copies/drawn"
_BLOCK = 2**22  # distances in memory at a time: 32 MiB


class Neighbours(NamedTuple):
    """Where images lie among training images.

    Attributes:
        ratio: distance of the nearest over the mean distance of the n nearest: [N].
        nearest: position of the nearest: [N] int64.
    """

    ratio: Array
    nearest: NDArray[np.int64]

    def is_copy(self) -> NDArray[np.bool_]:
        """Tell which images are near copies: [N]."""
        return self.ratio <= DELTA


def num_neighbours(num_train: int) -> int:
    """Return n: 50, or a quarter of the training images if that is less."""
    return max(1, min(MOST_NEIGHBOURS, num_train // 4))


def neighbours(features: Array, train: Array) -> Neighbours:
    """Look up the nearest training images.

    Args:
        features: of images, [N, D].
        train: of training images, [M, D], M at least 1.
    """
    number = num_neighbours(len(train))
    ratio, nearest = np.zeros(len(features)), np.zeros(len(features), dtype=np.int64)
    for part in _blocks(len(features), len(train)):
        distances = cdist(features[part], train)
        mean = np.partition(distances, number - 1, axis=1)[:, :number].mean(axis=1)
        nearest[part] = distances.argmin(axis=1)
        ratio[part] = np.divide(distances.min(axis=1), mean, out=np.zeros(len(mean)), where=mean > 0)
    return Neighbours(ratio, nearest)


def ratio_values(generated: Array, train: Array, held_out: Array) -> dict[str, Array]:
    """Compare each generated image's nearest of m training images with its nearest of the m held-out images.

    The mean is over all sets of m of the M training images, in closed form: the i-th nearest of M is the nearest of m
    with the chance C(M - i, m - 1) / C(M, m). So every training image counts alike, and their order does not matter.
    Blocks of m training images would depend on it, and leave the last ones out. If there are more held-out images than
    training images, the sets are of held-out images.

    Args:
        generated: features, [N, D].
        train: [M, D], M at least 1.
        held_out: [m, D], m at least 1.

    Returns:
        `log`: mean of log(distance of the training / of the held-out image), [N]; `nearer`: the share of sets by which
        the training image is nearer than the held-out one, equal ones by half, [N]. `log-pull` and `nearer-pull`: by
        how much the sum over the generated images rises if one image of the smaller kind is taken away, [min(M, m)].
    """
    if len(held_out) > len(train):
        found = ratio_values(generated, held_out, train)
        return {key: 1.0 - value if key == "nearer" else -value for key, value in found.items()}
    to_train, to_held_out = np.sort(cdist(generated, train), axis=1), np.sort(cdist(generated, held_out), axis=1)
    first = cdist(generated, held_out).argmin(axis=1)
    many, few = len(train), len(held_out)
    rank = np.arange(1, many - few + 2)
    weights = np.zeros(many)
    weights[: many - few + 1] = np.exp(log_choose(many - rank, few - 1) - log_choose(many, few))
    floor = np.maximum(_TINY * to_train.mean(axis=1), np.finfo(np.float64).tiny)
    log_train = np.log(np.maximum(to_train, floor[:, None])) @ weights

    def against(distance: Array) -> tuple[Array, Array]:
        nearer = (to_train < distance[:, None]) + 0.5 * (to_train == distance[:, None])
        log = log_train - np.log(np.maximum(distance, floor))
        return np.clip(log, -MOST_LOG, MOST_LOG), np.clip(nearer @ weights, 0.0, 1.0)

    log, nearer = against(to_held_out[:, 0])
    pulls = {"log-pull": np.zeros(few), "nearer-pull": np.zeros(few)}
    if few > 1:
        log_without, nearer_without = against(to_held_out[:, 1])
        for key, change in (("log-pull", log_without - log), ("nearer-pull", nearer_without - nearer)):
            np.add.at(pulls[key], first, change)
    return {"log": log, "nearer": nearer, **pulls}


def copy_sums(generated: Array, train: Array, held_out: Array) -> dict[str, Array]:
    """Count near copies in one space, and sum up the ratios; see `blank_copies` for the keys.

    Args:
        generated: features, [N, D], all finite.
        train: [M, D]; of fewer than 12 nothing is counted.
        held_out: [m, D].
    """
    sums = {"counts": np.zeros(4), "ratio": np.zeros(7), "histogram": np.zeros(NUM_BINS)}
    if len(train) < FEWEST_TRAIN or len(generated) == 0:
        return sums
    found = [neighbours(images, train).is_copy() for images in (generated, held_out)]
    sums["counts"] = np.array([[len(one), one.sum()] for one in found], dtype=np.float64).ravel()
    if len(held_out) == 0:
        return sums
    parts = [
        ratio_values(generated[part], train, held_out)
        for part in _blocks(len(generated), max(len(train), len(held_out)))
    ]
    log, nearer = (np.concatenate([one[key] for one in parts]) for key in ("log", "nearer"))
    pulls = [np.sum([one[key] for one in parts], axis=0) for key in ("log-pull", "nearer-pull")]
    variances = [float(((pull - pull.mean()) ** 2).sum()) for pull in pulls]
    sums["ratio"] = np.array([len(log), log.sum(), (log**2).sum(), nearer.sum(), (nearer**2).sum(), *variances])
    bins = np.floor((log / np.log(2.0) + _WIDEST) / (2 * _WIDEST) * NUM_BINS).astype(np.int64)
    sums["histogram"] = np.bincount(bins.clip(0, NUM_BINS - 1), minlength=NUM_BINS).astype(np.float64)
    return sums


def blank_copies() -> dict[str, Array]:
    """Return the sums of zero images.

    `copies/drawn` [2]: generated images, and how many of them are finite numbers. For each space `copies/<space>/…`:
    `counts` [4], generated images, near copies among them, held-out images, near copies among them; `ratio` [7], number
    of compared generated images, sum of log ratios and of their squares, sum of shares of nearer training images and of
    their squares, and what the choice of held-out images adds to the variance of both sums (by the jackknife);
    `histogram` [NUM_BINS], the compared images by log2 of their ratio, from -2 to 2.
    """
    nothing = np.zeros((0, 1))
    found = copy_sums(nothing, nothing, nothing)
    return {DRAWN: np.zeros(2)} | {f"copies/{space}/{key}": value for space in SPACES for key, value in found.items()}


def _blocks(num_rows: int, num_columns: int) -> Iterator[slice]:
    """Yield slices of the rows of a matrix of distances so that a block of it stays within `_BLOCK` numbers."""
    length = max(1, _BLOCK // max(num_columns, 1))
    for start in range(0, num_rows, length):
        yield slice(start, min(start + length, num_rows))


def log_choose(of: float | Array | NDArray[np.int64], number: float | Array | NDArray[np.int64]) -> Array:
    """Return log C(of, number); -inf if there is no such choice."""
    of, number = np.asarray(of, dtype=np.float64), np.asarray(number, dtype=np.float64)
    possible = (number >= 0) & (number <= of)
    some = np.where(possible, number, 0.0)
    found = -np.log1p(of) - betaln(of - some + 1.0, some + 1.0)  # exact to rounding also of a huge `of`
    return np.asarray(np.where(possible, found, -np.inf), dtype=np.float64)
