"""The share of training images that a threshold finds which 1 % of the held-out images pass, and its interval."""

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fl_app.metrics.intervals import Interval, wilson

Array = NDArray[np.float64]

FEWEST_CONTROLS = 300  # of fewer images, 1 % are less than three
FALSE_POSITIVES = 0.01
_LEVEL = 0.975  # of the threshold, and of the share at it: both hold in at least 95 %


def tpr_of(members: Array, controls: Array) -> float | None:
    """Return the share of members below the threshold that 1 % of the controls lie below; None below 300 controls.

    The threshold may divide a bin: members and controls of a bin are spread evenly over it.

    Args:
        members: [bins] counts, from low scores to high ones.
        controls: [bins] counts.
    """
    if not _is_defined(members, controls):
        return None
    target = FALSE_POSITIVES * controls.sum()
    false, true = (np.concatenate([[0.0], np.cumsum(counts)]) for counts in (controls, members))
    after = int(np.searchsorted(false, target, side="right"))  # at most the last bin, since the target is below all
    share = (target - false[after - 1]) / (false[after] - false[after - 1])
    return float((true[after - 1] + share * (true[after] - true[after - 1])) / members.sum())


def tpr_interval(members: Array, controls: Array) -> Interval | None:
    """Return the interval of `tpr_of`, of at least 95 %, whatever the distributions; None below 300 controls.

    The threshold is known from few controls only. How many of n controls lie below the true one is binomial, so it lies
    between two of them, the i-th and the j-th lowest, with a confidence of 97.5 % (David and Nagaraja, Order
    Statistics, 2003, 7.1). The ends are those of Wilson's intervals of 97.5 % of the members below the bin of the i-th
    and up to the bin of the j-th. Below 437 controls i is 0, and so is the lower end.

    Members and controls are those of all sites, pooled: the interval is that of their mixture, not of any one site.

    Args:
        members: [bins] counts, from low scores to high ones.
        controls: [bins] counts.
    """
    if not _is_defined(members, controls):
        return None
    number, tail = int(controls.sum()), (1.0 - _LEVEL) / 2.0
    below = np.arange(number)
    first = int((special.bdtr(below, number, FALSE_POSITIVES) <= tail).sum())
    last = int((special.bdtrc(below, number, FALSE_POSITIVES) > tail).sum()) + 1
    ends = np.cumsum(controls)
    low = members[: int(np.searchsorted(ends, first))].sum() if first > 0 else 0.0
    high = members[: int(np.searchsorted(ends, last)) + 1].sum()
    total = float(members.sum())
    return wilson(float(low) / total, total, _LEVEL)[0], wilson(float(high) / total, total, _LEVEL)[1]


def _is_defined(members: Array, controls: Array) -> bool:
    return bool(controls.sum() >= FEWEST_CONTROLS and members.sum() > 0)
