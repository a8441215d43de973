"""Decisions that no single site can turn: what hinges on one site's sums is put to the vote, one vote a site.

Sums of all sites say what one site wants if its numbers are false. With one site left out, in turn, the rest says
whether a decision rests on that site alone. It does not if the decision stays; if it does, how many images a site
claims to have no longer counts.
"""

import math
import statistics
from collections.abc import Callable, Mapping

from fl_app.sums import Statistics, without

FEWEST_SITES = 3  # of two sites nobody can tell which one is wrong


def decide(
    total: Statistics,
    parts: Mapping[str, Statistics],
    judge: Callable[[Statistics], bool],
    vote: Callable[[Statistics], bool | None],
) -> bool:
    """Return what the sums of all sites say, or, if that hinges on a single site, what most sites say.

    Args:
        total: of all sites.
        parts: of each site.
        judge: says yes or no by added sums.
        vote: what a site says by its own sums; None: nothing.
    """
    whole = judge(total)
    if len(parts) < FEWEST_SITES or all(judge(without(total, part)) == whole for part in parts.values()):
        return whole
    return majority(parts, vote)


def majority(parts: Mapping[str, Statistics], vote: Callable[[Statistics], bool | None]) -> bool:
    """Tell whether more sites say yes than no."""
    votes = [vote(part) for part in parts.values()]
    return votes.count(True) > votes.count(False)


def steady(
    total: Statistics,
    parts: Mapping[str, Statistics],
    measure: Callable[[Statistics], float | None],
    factor: float,
) -> float | None:
    """Return a figure of all sites; if one site alone moves it far, that of all or of all but one.

    Then it is the one that is closest to the median of the sites' own figures, which the images that a site claims to
    have do not weight.

    Args:
        total: of all sites.
        parts: of each site.
        measure: gives the figure, above 0, or None if it is not defined.
        factor: by more than this the figure must not change if a site is left out.
    """
    whole = measure(total)
    if whole is None or len(parts) < FEWEST_SITES:
        return whole
    others = [value for part in parts.values() if (value := measure(without(total, part))) is not None]
    own = [value for value in map(measure, parts.values()) if value is not None]
    is_steady = all(max(whole, other) <= factor * min(whole, other) for other in others)
    if is_steady or len(own) < FEWEST_SITES:
        return whole
    middle = statistics.median(own)
    return min([whole, *others], key=lambda value: abs(math.log(value / middle)))
