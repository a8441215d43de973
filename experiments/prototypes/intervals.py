"""A mean over seeds and how sure it is."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t


@dataclass(frozen=True)
class Estimate:
    """A mean and its confidence interval.

    Attributes:
        mean: over the seeds; None where there are none.
        low: lower end of the interval; None of fewer than two seeds.
        high: upper end, likewise.
        num_seeds: how many.
    """

    mean: float | None
    low: float | None
    high: float | None
    num_seeds: int


def estimate(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Return the mean of values and its interval by Student's t: mean +- t sd / sqrt(n).

    Args:
        values: one a seed; differences of pairs where two ways are compared.
        level: share of such intervals that hold the true mean.
    """
    if not values:
        return Estimate(None, None, None, 0)
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Estimate(mean, None, None, 1)
    quantile = float(t.ppf((1 + level) / 2, len(values) - 1))
    half = quantile * statistics.stdev(values) / len(values) ** 0.5
    return Estimate(mean, mean - half, mean + half, len(values))
