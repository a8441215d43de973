"""A mean over seeds, how far single seeds lie from it, and how sure it is."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A mean and its confidence interval.

    Attributes:
        mean: over the seeds; None if there are none.
        deviation: standard deviation of the seeds (n - 1); None of fewer than two seeds.
        low: lower end of the interval; None of fewer than two seeds.
        high: upper end, likewise.
        num_seeds: how many.
    """

    mean: float | None
    deviation: float | None
    low: float | None
    high: float | None
    num_seeds: int


def estimate(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Return the mean of values and its interval by Student's t with n - 1 degrees of freedom: mean +- t sd / sqrt(n).

    Args:
        values: one a seed; differences of pairs if two ways are compared.
        level: share of such intervals that hold the true mean.
    """
    if not values:
        return Estimate(None, None, None, None, 0)
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Estimate(mean, None, None, None, 1)
    from scipy.special import stdtrit  # scipy.stats would take 0.6 s longer to import

    deviation = statistics.stdev(values)
    half = float(stdtrit(len(values) - 1, (1 + level) / 2)) * deviation / len(values) ** 0.5
    return Estimate(mean, deviation, mean - half, mean + half, len(values))
