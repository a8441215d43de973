"""Further figures of a classifier, which the option `classification.metrics` names: a plug-in brings its own sums."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fl_app.plugins import load
from fl_app.sums import Statistics, mean

Array = NDArray[np.float64]

_MARK = "metric="  # before the name of a metric in the names of its sums: no other sum has it


@dataclass(frozen=True)
class Metric:
    """A figure from sums that add up over nodes; a plug-in of the group `fl_app.metrics` is one.

    It is measured of a network's own layer after each round, and of every head. It chooses nothing, so a site that lies
    about it changes a number in a table and nothing else.

    Attributes:
        blank: returns, for K classes, the sums of zero images: float64 arrays by name.
        sums: returns the sums of B images, with the same names and shapes, from the classes' probabilities [B, K]
            float64 (0 for a class that the head excludes, and before the head's temperature) and labels [B] int64. The
            sums of two sets of images must add up to those of both.
        figure: finishes added sums; None where the figure is not defined, as with zero images.
    """

    blank: Callable[[int], dict[str, Array]]
    sums: Callable[[Array, NDArray[np.int64]], dict[str, Array]]
    figure: Callable[[Statistics], float | None]


BRIER = Metric(
    blank=lambda num_classes: {"squares": np.zeros(()), "count": np.zeros(())},
    sums=lambda probabilities, labels: {
        "squares": ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(),
        "count": np.array(float(len(labels))),
    },
    figure=lambda sums: mean(float(sums["squares"]), float(sums["count"])),
)  # Brier, Monthly Weather Review 78, 1950: 0 is best, 2 is worst


def metric_by_name(name: str) -> Metric:
    """Return the metric of that name; raises OptionError if there is none that may be used."""
    found: Metric = load("metrics", name, "classification.metrics", Metric)
    return found


def blank_further(names: Sequence[str], num_classes: int) -> dict[str, Array]:
    """Return the sums of zero images of some metrics, as a node sends them."""
    return {
        f"{_MARK}{name}={key}": np.asarray(value, dtype=np.float64)
        for name in names
        for key, value in metric_by_name(name).blank(num_classes).items()
    }


def further_sums(names: Sequence[str], scores: Array, labels: NDArray[np.int64]) -> dict[str, Array]:
    """Return the sums of some metrics on images, as a node sends them; `scores`: [B, K], `labels`: [B]."""
    if not names:
        return {}
    probabilities = np.asarray(special.softmax(scores, axis=1))
    return {
        f"{_MARK}{name}={key}": np.asarray(value, dtype=np.float64)
        for name in names
        for key, value in metric_by_name(name).sums(probabilities, labels).items()
    }


def is_further(key: str) -> bool:
    """Tell whether a sum, by its name or the end of it, is one of a further metric."""
    return key.rpartition("/")[2].startswith(_MARK)


def further_figures(statistics: Statistics) -> dict[str, float | None]:
    """Finish the sums of the metrics that statistics hold; see `further_sums`."""
    sums: dict[str, dict[str, Array]] = {}
    for key, value in statistics.items():
        if is_further(key):
            name, _, rest = key.removeprefix(_MARK).partition("=")
            sums.setdefault(name, {})[rest] = value
    return {name: metric_by_name(name).figure(found) for name, found in sums.items()}
