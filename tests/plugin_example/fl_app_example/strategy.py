"""A strategy: the server goes half of the way to the mean of the nodes' weights."""

from collections.abc import Iterable

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from fl_app.messages.arrays import array_record, to_weights
from fl_app.strategies.registry import Strategy


class HalfSteps(FedAvg):
    """Averages the last weights and the mean of the nodes' weights."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Remember the last weights."""
        self.before = to_weights(arrays)
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Go half of the way to the only reply, which is the weighted mean of all accepted replies."""
        arrays, metrics = super().aggregate_train(server_round, replies)
        if arrays is None:  # the round failed
            return None, metrics
        mean = to_weights(arrays)
        return array_record({name: np.add(self.before[name], mean[name]) / 2 for name in mean}), metrics


HALF_STEPS = Strategy(HalfSteps)
