"""A weighted mean that does not depend on the order of its terms, bit for bit."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

LARGEST_TERM = 2.0**32  # of weight times value; 2,000 such terms fit before a sum overflows
SMALLEST_WEIGHT = 2.0**-20  # below it the fine unit would round float32 values away
_HIGH = 2.0**-20  # unit of the coarse sum: 2,048 of the largest terms make 2^63 units, one more than an int64 holds
_LOW = 2.0**-72  # unit of the fine sum: what a coarse unit leaves over, to far below float32's resolution
_MAX_TERMS = 2047


class ExactMean:
    """Running sums of `weight * value` in fixed point, of which only the last division rounds.

    Integer addition is associative, so the order of arrival cannot matter; float addition is not. Each term is split
    into a coarse and a fine integer, which together keep every bit of float32 values times weights below 2^29. One
    term is held at a time: the sums take 16 bytes a number, however many terms are folded in.
    """

    def __init__(self, like: Mapping[str, NDArray[np.generic]]) -> None:
        self._dtypes = {key: value.dtype for key, value in like.items()}
        self._high = {key: np.zeros(value.shape, np.int64) for key, value in like.items()}
        self._low = {key: np.zeros(value.shape, np.int64) for key, value in like.items()}
        self._weights: list[float] = []

    @property
    def total_weight(self) -> float:
        """The sum of the weights, rounded once, so that it does not depend on their order either."""
        return math.fsum(self._weights)

    def fits(self, weights: Mapping[str, NDArray[np.generic]], weight: float) -> bool:
        """Tell whether a term is small enough to be added exactly."""
        largest = max((float(np.abs(value).max()) for value in weights.values() if value.size), default=0.0)
        return len(self._weights) < _MAX_TERMS and weight * largest <= LARGEST_TERM and not 0 < weight < SMALLEST_WEIGHT

    def add(self, weights: Mapping[str, NDArray[np.generic]], weight: float) -> None:
        """Fold one term in; the caller has asked `fits` and checked keys and shapes."""
        for key, value in weights.items():
            term = np.array(value, dtype=np.float64)
            high = np.empty_like(term)
            term *= weight
            np.multiply(
                term, 1 / _HIGH, out=high
            )  # a power of two: exact, as below; in place, for new memory costs time
            np.rint(high, out=high)
            self._high[key] += high.astype(np.int64)
            high *= _HIGH
            term -= high
            term *= 1 / _LOW
            np.rint(term, out=term)
            self._low[key] += term.astype(np.int64)
        self._weights.append(weight)

    def result(self) -> dict[str, NDArray[np.generic]]:
        """Return the mean, each array in its own dtype; the sums are used up.

        Raises:
            ZeroDivisionError: nothing with a weight above 0 was added.
        """
        total_weight = self.total_weight
        if total_weight == 0:
            raise ZeroDivisionError("a mean needs a weight above 0")
        means: dict[str, NDArray[np.generic]] = {}
        for key, dtype in self._dtypes.items():
            total = self._high.pop(key) * _HIGH
            total += self._low.pop(key) * _LOW
            mean = np.asarray(total / total_weight)
            means[key] = (mean if dtype.kind == "f" else np.rint(mean)).astype(dtype)
        return means
