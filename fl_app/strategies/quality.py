"""Asks the sites about generated images, or about their real ones alone: for the curve over the rounds."""

import math
from dataclasses import dataclass, field

import numpy as np
from flwr.app import RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fl_app.data.images import ImageSet
from fl_app.messages.arrays import Weights
from fl_app.messages.quality import QUALITY, write_generated
from fl_app.options.quality import USEFULNESS
from fl_app.quality.figure import TRAINED_ON
from fl_app.quality.judging import check_quality, check_usefulness
from fl_app.quality.measuring import blank_quality
from fl_app.strategies.asking import Asking
from fl_app.strategies.node_outcome import NodeOutcome
from fl_app.strategies.outcomes import Traffic
from fl_app.sums import Sums


@dataclass(frozen=True)
class Question:
    """What the sites are asked.

    Attributes:
        measured: a feature network, `usefulness` or `curve`.
        last_round: of the task.
        images: generated ones; none for the curve.
        num_features: of the network.
        neighbours: k.
        largest: a feature can be, in absolute value; infinite if any can.
        weights: that make the features; empty: none do.
        network_file: bytes of the network's file; None: it has none.
    """

    measured: str
    last_round: int
    images: ImageSet
    num_features: int
    neighbours: int
    largest: float = math.inf
    weights: Weights = field(default_factory=dict)
    network_file: NDArray[np.uint8] | None = None

    @property
    def blank(self) -> Sums:
        """The sums of an answer about zero images."""
        num_classes = len(self.images.class_names)
        if self.measured == USEFULNESS:
            return {name: np.zeros((2, num_classes)) for name in TRAINED_ON}
        return blank_quality(self.num_features, num_classes)


def ask_quality(
    asking: Asking, grid: Grid, question: Question, traffic: Traffic | None = None
) -> tuple[dict[str, Sums], dict[str, NodeOutcome]]:
    """Ask all connected sites.

    Returns:
        The admitted sums by site, and the outcome of each site.
    """
    described = {site: asking.who.described(site) for site in asking.who.here(grid)}

    def judge(site: str, sums: Sums) -> None:
        known = described.get(site)
        test_counts, train_counts = (known.test_counts, known.train_counts) if known else (None, None)
        if question.measured == USEFULNESS:
            check_usefulness(sums, test_counts)
        else:
            check_quality(sums, test_counts, train_counts, len(question.images), question.neighbours, question.largest)

    config = asking.wire.config(question.last_round)
    content: RecordDict = write_generated(
        config, question.measured, question.images, question.weights, question.network_file
    )
    return asking.ask(grid, QUALITY, content, question.blank, traffic, judge=judge)
