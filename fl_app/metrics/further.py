"""Further figures of a classifier, named by the option `classification.metrics`: each metric has its own sums."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fl_app.plugins import load
from fl_app.sums import Sums, mean

Array = NDArray[np.float64]

_MARK = "metric="  # prefix in the names of these sums; no other sum has it


@dataclass(frozen=True)
class Metric:
    """A figure from sums that add up over nodes. Plug-ins of the group `fl_app.metrics` are such values.

    It is measured for the network's own layer after each round, and for every head. It decides nothing, so a site with
    false sums changes only a number in a table.

    Attributes:
        blank: returns, for K classes, the sums of zero images: float64 arrays by name.
        sums: returns the sums of B images, with the same names and shapes, from probabilities [B, K] float64 (before
            the head's temperature; 0 for an excluded class) and labels [B] int64. The sums of two sets of images must
            add up to those of both.
        figure: computes the figure from added sums; None if it is not defined, as for zero images.
    """

    blank: Callable[[int], dict[str, Array]]
    sums: Callable[[Array, NDArray[np.int64]], dict[str, Array]]
    figure: Callable[[Sums], float | None]


BRIER = Metric(
    blank=lambda num_classes: {"squares": np.zeros(()), "count": np.zeros(())},
    sums=lambda probabilities, labels: {
        "squares": ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(),
        "count": np.array(float(len(labels))),
    },
    figure=lambda sums: mean(float(sums["squares"]), float(sums["count"])),
)  # Brier, Monthly Weather Review 78, 1950: 0 is best, 2 is worst


def metric_by_name(name: str) -> Metric:
    """Return the metric of that name; raises OptionError if there is none, or it is not allowed."""
    found: Metric = load("metrics", name, "classification.metrics", Metric)
    return found


def blank_further(names: Sequence[str], num_classes: int) -> dict[str, Array]:
    """Return the metrics' sums of zero images, as a node sends them."""
    return {
        f"{_MARK}{name}={key}": np.asarray(value, dtype=np.float64)
        for name in names
        for key, value in metric_by_name(name).blank(num_classes).items()
    }


def further_sums(names: Sequence[str], scores: Array, labels: NDArray[np.int64]) -> dict[str, Array]:
    """Return the metrics' sums of images, as a node sends them; `scores`: [B, K], `labels`: [B]."""
    if not names:
        return {}
    probabilities = np.asarray(special.softmax(scores, axis=1))
    return {
        f"{_MARK}{name}={key}": np.asarray(value, dtype=np.float64)
        for name in names
        for key, value in metric_by_name(name).sums(probabilities, labels).items()
    }


def is_further(key: str) -> bool:
    """Return whether the name of a sum, with or without a prefix, belongs to a further metric."""
    return key.rpartition("/")[2].startswith(_MARK)


def further_figures(sums: Sums) -> dict[str, float | None]:
    """Compute the figures of all further metrics that the sums hold; see `further_sums`."""
    by_metric: dict[str, dict[str, Array]] = {}
    for key, value in sums.items():
        if is_further(key):
            name, _, rest = key.removeprefix(_MARK).partition("=")
            by_metric.setdefault(name, {})[rest] = value
    return {name: metric_by_name(name).figure(found) for name, found in by_metric.items()}
