"""Whether sums of embeddings are plausible: those of one site by themselves, and beside those of the other sites.

If all sites embed with the same network, a class has nearly the same mean everywhere. Sums of wrong classes, or of
another size, are far from what the others measured. Each other site has one vote, however many images it claims.

If each site embeds with its own network, class means cannot be compared, only the size of embeddings and their scatter.
"""

import math
import statistics
from collections.abc import Mapping

import numpy as np

from fl_app.classification.moments import Moments, blank_moments
from fl_app.classification.pictures import are_sums_of_pictures
from fl_app.errors import DataError, OptionError

_ADDED_LATER = {"picture"}  # sums of older versions lack it
_LARGEST_ROUNDING = 1e-6  # of the sum of squares, where sums of squares are compared
_FEWEST_SITES = 3  # of two nobody can tell which one is wrong
_FEWEST_IMAGES = 5  # of a class, for a mean that says something
_FARTHER = 1.5  # times as far from its own class as from another one: no mean of that class
_LARGER = 1.5  # times as long as the other site's mean of that class, or as short
_MORE_SCATTER = 4.0  # times the median of the sites
_OWN_LARGER = 3.0  # of own networks: times as long as the median site's, or as short
_OWN_MORE_SCATTER = 10.0  # of own networks: times the median of the sites


def check_moments(moments: Moments, num_classes: int, embedding_size: int) -> None:
    """Refuse what cannot be the sums of any images under a network whose embedding ends in a ReLU.

    Args:
        moments: to be judged.
        num_classes: K of the model.
        embedding_size: D of the model.

    Raises:
        OptionError: they are of another K or D, so of another model.
        DataError: a sum is missing, not finite, negative, or contradicts another one.
    """
    expected = blank_moments(num_classes, embedding_size)
    if moments.keys() | _ADDED_LATER != expected.keys():
        found = ", ".join(sorted(moments)) or "none"
        raise DataError(f"The sums must be {', '.join(expected)}; found {found}. Measure them again.")
    for name in (name for name in expected if name in moments):
        value, blank = moments[name], expected[name]
        if value.shape != blank.shape:
            raise OptionError(
                f"The sums do not fit the model: '{name}' is {list(value.shape)}, the model's {num_classes} "
                f"classes and {embedding_size} features make {list(blank.shape)}. Measure them with this very model."
            )
        if not np.isfinite(value).all():
            raise DataError(f"The sums '{name}' hold a number that is not finite: measure them again.")
        if name != "picture" and (value < 0).any():
            raise DataError(f"The sums '{name}' hold a negative number, which no image leads to: measure them again.")
    _check_counts(moments)
    if "picture" in moments and not are_sums_of_pictures(moments["picture"], float(moments["count"].sum())):
        raise DataError("The sums 'picture' are not those of as many images as were counted: measure them again.")


def _check_counts(moments: Moments) -> None:
    count, withheld = moments["count"], moments["withheld"]
    if (count != np.round(count)).any() or not np.isin(withheld, (0.0, 1.0)).all() or (count * withheld).any():
        raise DataError("The counts of images must be whole numbers, and none of a withheld class: measure again.")
    if moments["sum"][count == 0].any():
        raise DataError("The sums of a class without images must be 0: measure again.")
    if not count.any():
        raise DataError("The sums are of no image: every class is withheld or missing, so there is nothing to add.")
    squares = float(np.trace(moments["outer"]))
    of_means = float(((moments["sum"] ** 2).sum(axis=1) / np.maximum(count, 1.0)).sum())
    if of_means > squares * (1.0 + _LARGEST_ROUNDING):
        raise DataError("The sums of squares are smaller than those of the means, which no image leads to.")


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
    scatters = _scatters(held)
    typical = statistics.median(scatters.values()) if len(scatters) >= _FEWEST_SITES else math.inf
    for site, part in held.items():
        verdicts = [_fits(part, other) for name, other in held.items() if name != site]
        against, beside = verdicts.count(False), verdicts.count(True)
        if against >= 2 and against > beside:
            found[site] = f"{against} of {against + beside} sites take the class means of its sums for other classes"
        elif scatters.get(site, 0.0) > _MORE_SCATTER * typical > 0:
            found[site] = f"its embeddings scatter {scatters[site] / typical:.1f} times as much as the median site's"
    return found


def out_of_scale(parts: Mapping[str, Moments]) -> dict[str, str]:
    """Return the sites whose sums are of another size than the median site's, each with the reason.

    Between honest sites lengths differ by factors of at most 1.45, and scatters by 3.5: see `benchmarks.own_networks`.
    The network of a site that holds one class has nothing to tell apart, and may map all images close to zero: such a
    site is not rejected for short means.

    Args:
        parts: moments by site, each measured with the site's own network.
    """
    held = {site: part for site, part in parts.items() if part["count"].any()}
    if len(held) < _FEWEST_SITES:
        return {}
    found: dict[str, str] = {}
    lengths, scatters = {site: mean_length(part) for site, part in held.items()}, _scatters(held)
    length = statistics.median(lengths.values())
    typical = statistics.median(scatters.values()) if len(scatters) >= _FEWEST_SITES else math.inf
    for site in held:
        can_be_short = np.count_nonzero(held[site]["count"] >= _FEWEST_IMAGES) < 2
        shortest = 0.0 if can_be_short else length / _OWN_LARGER
        if not shortest <= lengths[site] <= length * _OWN_LARGER:
            found[site] = f"the means of its embeddings are {lengths[site]:.3g} long, the median site's {length:.3g}"
        elif scatters.get(site, 0.0) > _OWN_MORE_SCATTER * typical > 0:
            found[site] = f"its embeddings scatter {scatters[site] / typical:.3g} times as much as the median site's"
    return found


def mean_length(part: Moments) -> float:
    """Return the root of the mean squared length of the class means, each counted once an image."""
    count = part["count"]
    return math.sqrt(float((part["sum"] ** 2 / np.maximum(count, 1.0)[:, None]).sum() / count.sum()))


def _scatters(parts: Mapping[str, Moments]) -> dict[str, float]:
    """Return the scatter of each site that has enough images for one."""
    return {site: found for site, part in parts.items() if (found := scatter(part)) is not None}


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


def scatter(part: Moments) -> float | None:
    """Return the mean squared distance of a site's embeddings from their class's mean; None of too few images."""
    count = part["count"]
    freedom = float(count.sum() - np.count_nonzero(count))
    if freedom < _FEWEST_IMAGES:
        return None
    of_means = (part["sum"] ** 2).sum(axis=1) / np.maximum(count, 1.0)
    return max(float(np.trace(part["outer"]) - of_means.sum()), 0.0) / freedom
