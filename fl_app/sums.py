"""Sums that nodes send: how they are added and checked, and decisions by them that no single site can turn.

A site with false numbers can make the sums of all sites say what it wants. So a decision is made again without each
site in turn. If it changes, it rests on that site: then the sites vote, one vote each, whatever number of images a site
claims to have.
"""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

Sums = Mapping[str, NDArray[np.float64]]

ROUNDING = 1e-6  # relative tolerance in comparisons of sums
FEWEST_SITES = 3  # of two sites nobody can tell which one is wrong
_TINY = 1e-12  # in place of a figure of 0, whose logarithm is not defined
_MOST_TESTED = 3  # times the test images of all other sites together
_MOST_OF_TWO = 10  # times those of the other site


def add(parts: Iterable[Sums]) -> dict[str, NDArray[np.float64]]:
    """Add sums key by key, in the order given.

    Raises:
        ValueError: two parts have different keys or shapes.
    """
    total: dict[str, NDArray[np.float64]] = {}
    for part in parts:
        if not total:
            total = {key: np.array(value, dtype=np.float64) for key, value in part.items()}
            continue
        if {key: value.shape for key, value in total.items()} != {key: value.shape for key, value in part.items()}:
            raise ValueError("sums with other keys or shapes cannot be added")
        for key, value in part.items():
            total[key] += value
    return total


def without(total: Sums, part: Sums) -> dict[str, NDArray[np.float64]]:
    """Subtract a part from added sums; exact if they are whole numbers."""
    return {key: np.asarray(value - part[key]) for key, value in total.items()}


def only(sums: Sums, name: str) -> Sums:
    """Return the sums of one set of weights: those whose keys begin with its name, without this prefix."""
    return {key.split("/", 1)[1]: value for key, value in sums.items() if key.startswith(f"{name}/")}


def mean(total: float, count: float) -> float | None:
    """Divide a sum by its count; None if the count is 0."""
    return float(total) / float(count) if count > 0 else None


def decide(
    total: Sums,
    parts: Mapping[str, Sums],
    judge: Callable[[Sums], bool],
    vote: Callable[[Sums], bool | None],
) -> bool:
    """Decide by the sums of all sites or, if that decision hinges on a single site, by a vote.

    Args:
        total: sums of all sites.
        parts: sums of each site.
        judge: decides by added sums.
        vote: decides by a site's own sums; None: the site abstains.
    """
    whole = judge(total)
    if len(parts) < FEWEST_SITES or all(judge(without(total, part)) == whole for part in parts.values()):
        return whole
    return majority(parts, vote)


def majority(parts: Mapping[str, Sums], vote: Callable[[Sums], bool | None]) -> bool:
    """Tell whether more sites vote yes than no."""
    votes = [vote(part) for part in parts.values()]
    return votes.count(True) > votes.count(False)


def elect(total: Sums, parts: Mapping[str, Sums], choose: Callable[[Sums], str | None]) -> str | None:
    """Choose by the sums of all sites or, if that choice hinges on a single site, by a vote.

    Args:
        total: sums of all sites.
        parts: sums of each site.
        choose: returns a choice by added sums or by a site's own; None: there is nothing to choose by.

    Returns:
        The choice; of equal votes that of all sites, if it is among them.
    """
    whole = choose(total)
    votes = {site: vote for site, part in parts.items() if (vote := choose(part)) is not None}
    if len(votes) < FEWEST_SITES or all(choose(without(total, parts[site])) == whole for site in votes):
        return whole
    counts = Counter(votes.values())
    return max(sorted(counts), key=lambda name: (counts[name], name == whole))


def steady(
    total: Sums,
    parts: Mapping[str, Sums],
    measure: Callable[[Sums], float | None],
    factor: float,
) -> float | None:
    """Return a figure that no single site can move far.

    It is the figure of all sites, if leaving out any one site changes it by no more than `factor`. Else it is the one,
    of all sites or of all but one, that is closest to the median of the sites' own figures: the number of images that a
    site claims to have does not weight that median.

    Args:
        total: sums of all sites.
        parts: sums of each site.
        measure: returns the figure, at least 0, or None if it is not defined.
        factor: the largest change that counts as steady.
    """
    whole = measure(total)
    if whole is None or len(parts) < FEWEST_SITES:
        return whole
    others = [value for part in parts.values() if (value := measure(without(total, part))) is not None]
    own = [value for value in map(measure, parts.values()) if value is not None]
    is_steady = all(max(whole, other) <= factor * min(whole, other) for other in others)
    if is_steady or len(own) < FEWEST_SITES:
        return whole
    middle = max(statistics.median(own), _TINY)
    return min([whole, *others], key=lambda value: abs(math.log(max(value, _TINY) / middle)))


def measures_most(num_images: Mapping[str, float]) -> str | None:
    """Return the site whose test images outweigh all others', so that it decides the figures; None if there is none.

    It has more than three quarters of all test images; of two sites, more than ten times as many as the other. Of
    20,000 splits of nine or ten equal classes among ten sites, drawn with Dirichlet's alpha 0.1, none gives a site so
    many; with two equal classes 2.5 % do.

    Args:
        num_images: test images by site.
    """
    if len(num_images) < 2:
        return None
    largest = max(num_images, key=lambda site: num_images[site])
    others = sum(num_images.values()) - num_images[largest]
    factor = _MOST_OF_TWO if len(num_images) == 2 else _MOST_TESTED
    return largest if num_images[largest] > factor * others else None


def differing_images(images: Iterable[NDArray[np.float64]]) -> str | None:
    """Return a fault if models were measured on different images, else None; `images`: counts for each model."""
    counts = list(images)
    if any((count != counts[0]).any() for count in counts[1:]):
        return "it measured its models on different images"
    return None


def are_counts(values: NDArray[np.float64]) -> bool:
    """Return whether all numbers are whole and at least 0."""
    return bool(((values >= 0) & (values == np.round(values))).all())
