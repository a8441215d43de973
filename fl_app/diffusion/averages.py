"""Exponential moving averages of weights: their decay, and the server's average over rounds."""

import math

import numpy as np
from numpy.typing import NDArray

Weights = dict[str, NDArray[np.generic]]


def ema_decay(num_updates: float, horizon: float) -> float:
    """Return an EMA's decay after some updates.

    It starts at 0.1 and grows, so that the first weights do not dominate a young average.

    Args:
        num_updates: updates done before this one.
        horizon: averaging time in updates; 0 follows the weights at once.
    """
    longest = math.exp(-1.0 / horizon) if horizon > 0 else 0.0
    return min(longest, (1.0 + num_updates) / (10.0 + num_updates))


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
