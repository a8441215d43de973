"""Rounds and bytes until an accuracy is reached, the exchange of prototypes counted."""

from dataclasses import dataclass

from experiments.prototypes.grid import EVERY_ROUND
from experiments.prototypes.places import LDA, LINEAR, NEAREST_MEAN, SHIPS, Approach, Place, Results

THRESHOLD = 0.75
WITH_PROTOTYPES = (NEAREST_MEAN, LDA, SHIPS)


@dataclass(frozen=True)
class Reached:
    """When an approach first had the accuracy.

    Attributes:
        is_reached: else it never had, and round and bytes are those of the last round looked at: lower bounds.
        round: its number; training could have stopped after it.
        down: bytes from the server until then, one exchange among them where the approach needs it.
        up: bytes from the nodes, likewise.
    """

    is_reached: bool
    round: int
    down: int
    up: int

    @property
    def bytes(self) -> int:
        """Both ways."""
        return self.down + self.up


def every_round() -> list[Place]:
    """Return the places of the part `rounds`, in the order of the rounds."""
    return [Place("rounds", "fashion-mnist", "dirichlet-0.05", "FedAvg", number) for number in EVERY_ROUND]


def until(results: Results, approach: Approach, seed: int, threshold: float = THRESHOLD) -> Reached | None:
    """Find the first round whose test accuracy is at least the threshold; None where there is no such run.

    An approach that stops after round r has sent the messages of rounds 1 to r and, with prototypes, of one exchange;
    the exchanges after other rounds, which were made to measure every round, are not counted. The head that ships
    takes an exchange even where it turns out to be the linear one.
    """
    last = None
    for place in every_round():
        row = results.rows(place, approach).get(seed)
        if row is None:
            continue
        exchanged = (0, 0) if approach == LINEAR else (row.exchange_down, row.exchange_up)
        is_reached = row.accuracy is not None and row.accuracy >= threshold
        last = Reached(is_reached, row.round, row.train_down + exchanged[0], row.train_up + exchanged[1])
        if is_reached:
            return last
    return last
