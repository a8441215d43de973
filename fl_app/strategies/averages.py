"""The server's exponential moving average of the global weights."""

import numpy as np

from fl_app.node.training import ema_decay
from fl_app.records import Weights


class ServerEma:
    """Averages the global weights over rounds.

    Attributes:
        weights: the average so far.
        num_updates: rounds folded in.
    """

    def __init__(self, weights: Weights, horizon_rounds: float) -> None:
        self.weights = {key: value.copy() for key, value in weights.items()}
        self.horizon_rounds = horizon_rounds
        self.num_updates = 0

    def update(self, weights: Weights) -> None:
        """Fold the weights of one more round in, in float64; integers follow at once."""
        decay = ema_decay(self.num_updates, self.horizon_rounds)
        for key, value in weights.items():
            if value.dtype.kind != "f":
                self.weights[key] = value.copy()
                continue
            average = decay * self.weights[key].astype(np.float64) + (1.0 - decay) * value.astype(np.float64)
            self.weights[key] = average.astype(value.dtype)
        self.num_updates += 1
