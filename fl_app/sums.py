"""Sums that nodes send, and the one way to put them together."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

Statistics = Mapping[str, NDArray[np.float64]]


def add(parts: Iterable[Statistics]) -> dict[str, NDArray[np.float64]]:
    """Add statistics key by key, in the order given.

    Raises:
        ValueError: two parts do not have the same keys and shapes.
    """
    total: dict[str, NDArray[np.float64]] = {}
    for part in parts:
        if not total:
            total = {key: np.array(value, dtype=np.float64) for key, value in part.items()}
            continue
        if {key: value.shape for key, value in total.items()} != {key: value.shape for key, value in part.items()}:
            raise ValueError("statistics with other keys or shapes cannot be added")
        for key, value in part.items():
            total[key] += value
    return total


def without(total: Statistics, part: Statistics) -> dict[str, NDArray[np.float64]]:
    """Take a part out of added statistics again; sums of whole numbers are exact."""
    return {key: np.asarray(value - part[key]) for key, value in total.items()}


def only(statistics: Statistics, name: str) -> Statistics:
    """Return the sums of one set of weights: those whose keys begin with its name, without this prefix."""
    return {key.split("/", 1)[1]: value for key, value in statistics.items() if key.startswith(f"{name}/")}


def mean(total: float, count: float) -> float | None:
    """Divide a sum by its count; a mean over nothing is not defined, and None."""
    return float(total) / float(count) if count > 0 else None
