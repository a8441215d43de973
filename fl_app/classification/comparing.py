"""Rejects sums of an exchange of prototypes that most other sites contradict.

If all sites embed with the same network, a class has nearly the same mean everywhere. Sums of wrong classes, or of
another scale, differ from the others'. Each other site has one vote, whatever number of images it claims. If each site
embeds with its own network, class means cannot be compared, only the size of embeddings and their scatter.
"""

import math
import statistics
from collections.abc import Collection, Mapping

import numpy as np

from fl_app.classification.moments import Moments
from fl_app.sums import FEWEST_SITES

_FEWEST_IMAGES = 8  # of a class, for a meaningful mean
_FARTHER = 1.0  # times as far from its own class as from another: not a mean of that class
_LARGER = 1.3  # times as long as the other site's mean of that class, or as short
_MORE_SCATTER = 4.0  # times the median of the sites
_OWN_LARGER = 3.0  # of own networks: times as long as the median site's, or as short
_OWN_MORE_SCATTER = 10.0  # of own networks: times the median of the sites


def contradicted(parts: Mapping[str, Moments]) -> dict[str, str]:
    """Return the sites whose sums most other sites contradict, each with the reason.

    The most contradicted site goes first, and has no say on the others. Two sites with too few images in common are not
    compared.

    Args:
        parts: moments by site, all measured with the same network.
    """
    held = {site: part for site, part in parts.items() if part["count"].any()}
    if len(held) < FEWEST_SITES:
        return {}
    found: dict[str, str] = {}
    scatters = _scatters(held)
    typical = statistics.median(scatters.values()) if len(scatters) >= FEWEST_SITES else math.inf
    verdicts = {site: {name: _fits(part, other) for name, other in held.items()} for site, part in held.items()}
    while worst := _most_contradicted(verdicts, found):
        found |= worst
    for site in held.keys() - found.keys():
        if scatters.get(site, 0.0) > _MORE_SCATTER * typical > 0:
            found[site] = f"its embeddings scatter {scatters[site] / typical:.1f} times as much as the median site's"
    return dict(sorted(found.items()))


def _most_contradicted(verdicts: Mapping[str, Mapping[str, bool | None]], absent: Collection[str]) -> dict[str, str]:
    """Return the sites that the most others contradict, each with the reason; none if no majority contradicts any."""
    found: dict[str, str] = {}
    most = 0
    for site, given in verdicts.items():
        says = [one for name, one in given.items() if name != site and name not in absent]
        against, beside = says.count(False), says.count(True)
        if site in absent or against < 2 or against - beside < max(most, 1):
            continue
        reason = f"{against} of {against + beside} sites take the class means of its sums for other classes"
        found = {site: reason} if against - beside > most else {**found, site: reason}
        most = against - beside
    return found


def out_of_scale(parts: Mapping[str, Moments]) -> dict[str, str]:
    """Return the sites whose embeddings have another scale than the median site's, each with the reason.

    Between honest sites lengths differ by factors of at most 1.45, and scatters by 3.5: see `benchmarks.own_networks`.
    The network of a site that holds one class has nothing to tell apart, and may map all images close to zero: such a
    site is not rejected for short means.

    Args:
        parts: moments by site, each measured with the site's own network.
    """
    held = {site: part for site, part in parts.items() if part["count"].any()}
    if len(held) < FEWEST_SITES:
        return {}
    found: dict[str, str] = {}
    lengths, scatters = {site: mean_length(part) for site, part in held.items()}, _scatters(held)
    length = statistics.median(lengths.values())
    typical = statistics.median(scatters.values()) if len(scatters) >= FEWEST_SITES else math.inf
    for site in held:
        can_be_short = np.count_nonzero(held[site]["count"] >= _FEWEST_IMAGES) < 2
        shortest = 0.0 if can_be_short else length / _OWN_LARGER
        if not shortest <= lengths[site] <= length * _OWN_LARGER:
            found[site] = f"the means of its embeddings are {lengths[site]:.3g} long, the median site's {length:.3g}"
        elif scatters.get(site, 0.0) > _OWN_MORE_SCATTER * typical > 0:
            found[site] = f"its embeddings scatter {scatters[site] / typical:.3g} times as much as the median site's"
    return found


def mean_length(part: Moments) -> float:
    """Return the root mean square length of the class means, weighted by images."""
    count = part["count"]
    return math.sqrt(float((part["sum"] ** 2 / np.maximum(count, 1.0)[:, None]).sum() / count.sum()))


def _scatters(parts: Mapping[str, Moments]) -> dict[str, float]:
    """Return the scatter by site, of sites with enough images."""
    return {site: found for site, part in parts.items() if (found := scatter(part)) is not None}


def _fits(part: Moments, other: Moments) -> bool | None:
    """Return whether another site confirms the class means of most of a site's images.

    None if the two have too few images in common, or the other one too few classes to compare.
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


def scatter(part: Moments) -> float | None:
    """Return the mean squared distance of a site's embeddings from their class's mean; None if images are too few."""
    count = part["count"]
    freedom = float(count.sum() - np.count_nonzero(count))
    if freedom < _FEWEST_IMAGES:
        return None
    of_means = (part["sum"] ** 2).sum(axis=1) / np.maximum(count, 1.0)
    return max(float(np.trace(part["outer"]) - of_means.sum()), 0.0) / freedom
