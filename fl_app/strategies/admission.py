"""Which replies are fit to be averaged: each is judged alone, and a bad one changes nothing."""

import math
import statistics
from collections import deque
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fl_app.config import AdmissionOptions
from fl_app.metrics.additive import Statistics
from fl_app.records import Reply, Weights

_LARGEST_SUM = 1e15


class Refusal(Exception):
    """A reply is not fit; the text is the reason that is logged and counted against its node."""


class Admission:
    """Judges replies, and remembers how long the updates of recent rounds were.

    Attributes:
        recent_norms: the update norms of the last rounds, a list for each round.
    """

    def __init__(self, options: AdmissionOptions) -> None:
        self.options = options
        self.recent_norms: deque[list[float]] = deque(maxlen=options.norm_window)
        self._norms_of_round: list[float] = []

    def check(
        self, reply: Reply, task: str, round_number: int, site: str, current: Weights, expected: Statistics
    ) -> None:
        """Judge one reply against the weights that were sent and the sums that were asked for.

        The first round has no earlier updates to compare with, so there the length of an update is not judged.

        Raises:
            Refusal: with the reason.
        """
        if (reply.task, reply.round_number) != (task, round_number):
            raise Refusal(f"it answers {reply.task} round {reply.round_number}, not {task} round {round_number}")
        if reply.site != site:
            raise Refusal(f"it calls itself {reply.site!r}, but was described as {site!r}")
        self._check_weight(reply.weight)
        check_arrays(reply.weights, current)
        if reply.node_ema is not None:
            check_arrays(reply.node_ema, current)
        for value in (reply.loss_sum, reply.num_losses, reply.seconds, reply.num_pieces):
            if not (math.isfinite(value) and abs(value) < _LARGEST_SUM):
                raise Refusal("a figure of its training is not finite, or absurdly large")
        check_statistics(reply.statistics, expected)
        if reply.weight > 0:
            self._check_norm(update_norm(reply.weights, current))

    def remember(self, reply: Reply, current: Weights) -> None:
        """Count an admitted reply among those that later ones are compared with."""
        if reply.weight > 0:
            self._norms_of_round.append(update_norm(reply.weights, current))

    def end_round(self) -> None:
        """Remember the norms of this round's admitted replies."""
        if self._norms_of_round:
            self.recent_norms.append(sorted(self._norms_of_round))
        self._norms_of_round = []

    def _check_weight(self, weight: float) -> None:
        if not (math.isfinite(weight) and weight >= 0):
            raise Refusal(f"its weight must be a finite number of at least 0, got {weight}")
        if 0 < self.options.max_weight < weight:
            raise Refusal(f"its weight {weight:g} is beyond 'admission.max-weight' = {self.options.max_weight:g}")

    def _check_norm(self, norm: float) -> None:
        recent = [length for norms in self.recent_norms for length in norms]
        ratio = self.options.max_update_norm_ratio
        typical = statistics.median(recent) if recent else 0.0
        if ratio > 0 and typical > 0 and norm > ratio * typical:
            raise Refusal(
                f"its update is {norm / typical:.1f} times as long as the median of recent rounds, "
                f"'admission.max-update-norm-ratio' allows {ratio:g}"
            )


def check_arrays(found: Mapping[str, NDArray[np.generic]], expected: Mapping[str, NDArray[np.generic]]) -> None:
    """Raise Refusal unless names, shapes and dtypes agree and every number is finite."""
    if found.keys() != expected.keys():
        missing, extra = expected.keys() - found.keys(), found.keys() - expected.keys()
        raise Refusal(f"its arrays have other names: {len(missing)} missing, {len(extra)} unknown")
    for key, value in found.items():
        if value.shape != expected[key].shape or value.dtype != expected[key].dtype:
            wanted = f"{expected[key].dtype} {list(expected[key].shape)}"
            raise Refusal(f"array {key!r} must be {wanted}, got {value.dtype} {list(value.shape)}")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise Refusal(f"array {key!r} holds a number that is not finite")


def check_statistics(found: Statistics, expected: Statistics) -> None:
    """Raise Refusal unless names and shapes agree and every sum is a number of a sane size."""
    if {key: value.shape for key, value in found.items()} != {key: value.shape for key, value in expected.items()}:
        raise Refusal("its statistics have other names or shapes than those asked for")
    for value in found.values():
        if not (np.isfinite(value).all() and (np.abs(value) < _LARGEST_SUM).all()):
            raise Refusal("its statistics are not finite, or absurdly large")


def update_norm(new: Mapping[str, NDArray[np.generic]], old: Mapping[str, NDArray[np.generic]]) -> float:
    """Return the Euclidean length of the update over all arrays, in float64."""
    squares = 0.0
    for key, value in old.items():  # in the model's own order: what a node sends comes in another one
        difference = new[key].astype(np.float64) - value.astype(np.float64)
        squares += float(np.vdot(difference, difference))
    return math.sqrt(squares)
