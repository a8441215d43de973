"""The outcome of one node in a round: a record without Flower, which the files of a run hold as well."""

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["contributed", "empty", "refused", "failed", "late", "absent"]

ARRIVED = ("contributed", "empty", "refused")  # a rejected reply has left its site, too


@dataclass(frozen=True)
class NodeOutcome:
    """One node's outcome in a round.

    Attributes:
        outcome: `contributed`; `empty`: valid, but without images; `refused`: rejected; `failed`: an error; `late`:
            no answer before the deadline; `absent`: not connected, so not asked.
        reason: why it did not contribute; None if it did.
        images: number of its training images.
        seconds: time of its local training.
        pieces: pieces per batch; more than 1 if GPU memory was short.
    """

    outcome: Outcome
    reason: str | None = None
    images: float = 0.0
    seconds: float = 0.0
    pieces: float = 1
