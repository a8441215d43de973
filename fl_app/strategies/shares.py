"""How much of a round's average one site carries: a warning, and a cap."""

import logging
import math
from collections.abc import Mapping, Sequence

from fl_app.sums import measures_most

log = logging.getLogger(__name__)

_CARRIES = 0.5  # of the weight of three sites or more
_CARRIES_OF_TWO = 0.9
_DOMINATES = 10  # times the held-out images of all other sites together


def cap_of(weights: Sequence[float], max_share: float) -> float:
    """Return the largest weight that a site may have, so that none has more than a share of the capped total.

    With the cap c, a site of weight w counts as min(w, c), and c = max_share * sum of all min(w, c). The m largest
    weights are capped, where c = max_share * (sum of the others) / (1 - m * max_share). A whole number, rounded down,
    so that the mean stays exact; it does not depend on the order of the weights.

    Args:
        weights: of the sites of a round, each above 0.
        max_share: 0 or 1: no cap. If so few sites cannot have such small shares, all get the same weight.
    """
    ordered = sorted(weights, reverse=True)
    if not ordered or not 0 < max_share < 1:
        return math.inf
    for num_capped, weight in enumerate(ordered):
        left = 1 - num_capped * max_share
        if left <= 0:
            break
        cap = max_share * math.fsum(ordered[num_capped:]) / left
        if weight <= cap:
            return _whole(cap) if num_capped else math.inf
    return ordered[-1]


def carries_most(num_images: Mapping[str, float]) -> str | None:
    """Return the site with more than half of all training images, of two sites more than 90 %; None if there is none.

    Args:
        num_images: training images by site.
    """
    counts = {site: count for site, count in num_images.items() if count > 0}
    if len(counts) < 2:
        return None
    largest = max(sorted(counts), key=lambda site: counts[site])
    share = counts[largest] / sum(counts.values())
    return largest if share > (_CARRIES_OF_TWO if len(counts) == 2 else _CARRIES) else None


def warn_of_giants(counts: Mapping[str, Mapping[str, Sequence[int]]]) -> None:
    """Warn of a site that holds most of all images: it alone decides the result, and its counts may be false.

    Args:
        counts: images of each class, by site and part.
    """
    tested, trained, held_out = (
        {site: sum(parts[name]) for site, parts in counts.items()} for name in ("test", "train", "validation")
    )
    if most := measures_most(tested):
        log.warning(
            "Site %s says that it has %d of all %d test images: it alone will decide the test "
            "figures. Compare the figures of each site.",
            most,
            tested[most],
            sum(tested.values()),
        )
    if most := carries_most(trained):
        log.warning(
            "Site %s says that it has %d of all %d training images, so it carries %.0f %% of the average's weight. "
            "If the count is false, stop the run and set 'admission.max-weight'. 'admission.max-share' caps its share.",
            most,
            trained[most],
            sum(trained.values()),
            100 * trained[most] / sum(trained.values()),
        )
    most = max(held_out, key=lambda site: held_out[site], default=None)
    others = sum(held_out.values()) - held_out.get(most or "", 0)
    if most is not None and len(held_out) > 2 and held_out[most] > _DOMINATES * others > 0:
        log.warning(
            "Site %s says that it has %d held-out images, all other sites together %d: it alone will decide what is "
            "chosen by held-out images. Compare the figures of each site.",
            most,
            held_out[most],
            others,
        )


def _whole(cap: float) -> float:
    return float(math.floor(cap)) or cap
