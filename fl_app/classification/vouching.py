"""Whether sites' sums of embeddings fit together: each site's class means are told apart by every other site's.

All sites embed with the same network, so that a class has nearly the same mean everywhere. Sums of wrong classes, or of
another size, are far from what the others measured. Each other site has one vote, however many images it claims.
"""

import math
import statistics
from collections.abc import Mapping

import numpy as np

from fl_app.classification.moments import Moments

_FEWEST_SITES = 3  # of two nobody can tell which one is wrong
_FEWEST_IMAGES = 5  # of a class, for a mean that says something
_FARTHER = 1.5  # times as far from its own class as from another one: no mean of that class
_LARGER = 1.5  # times as long as the other site's mean of that class, or as short
_MORE_SCATTER = 4.0  # times the median of the sites


def contradicted(parts: Mapping[str, Moments]) -> dict[str, str]:
    """Return the sites whose sums most other sites contradict, each with the reason.

    A site is not judged by one with which it has too few images in common.

    Args:
        parts: moments by site, all measured with the same network.
    """
    held = {site: part for site, part in parts.items() if part["count"].any()}
    if len(held) < _FEWEST_SITES:
        return {}
    found: dict[str, str] = {}
    scatters = {site: scatter for site, part in held.items() if (scatter := _scatter(part)) is not None}
    typical = statistics.median(scatters.values()) if len(scatters) >= _FEWEST_SITES else math.inf
    for site, part in held.items():
        verdicts = [_fits(part, other) for name, other in held.items() if name != site]
        against, beside = verdicts.count(False), verdicts.count(True)
        if against >= 2 and against > beside:
            found[site] = f"{against} of {against + beside} sites take the class means of its sums for other classes"
        elif scatters.get(site, 0.0) > _MORE_SCATTER * typical > 0:
            found[site] = f"its embeddings scatter {scatters[site] / typical:.1f} times as much as the median site's"
    return found


def _fits(part: Moments, other: Moments) -> bool | None:
    """Tell whether most of a site's images lie in classes whose mean another site finds where it should be.

    None: the two have too few images in common, or the other one too few classes to tell apart.
    """
    known = np.flatnonzero(other["count"] >= _FEWEST_IMAGES)
    shared = [label for label in known if part["count"][label] >= _FEWEST_IMAGES]
    if len(known) < 2 or not shared:
        return None
    points = other["sum"][known] / other["count"][known, None]
    right = wrong = 0.0
    for label in shared:
        mean = part["sum"][label] / part["count"][label]
        distances = np.linalg.norm(points - mean, axis=1)
        own = known == label
        lengths = float(np.linalg.norm(mean)), float(np.linalg.norm(points[own]))
        is_near = distances[own][0] <= _FARTHER * distances[~own].min()
        is_as_long = max(lengths) <= _LARGER * min(lengths)
        if is_near and is_as_long:
            right += float(part["count"][label])
        else:
            wrong += float(part["count"][label])
    return right >= wrong


def _scatter(part: Moments) -> float | None:
    """Return the mean squared distance of a site's embeddings from their class's mean; None of too few images."""
    count = part["count"]
    freedom = float(count.sum() - np.count_nonzero(count))
    if freedom < _FEWEST_IMAGES:
        return None
    of_means = (part["sum"] ** 2).sum(axis=1) / np.maximum(count, 1.0)
    return max(float(np.trace(part["outer"]) - of_means.sum()), 0.0) / freedom
