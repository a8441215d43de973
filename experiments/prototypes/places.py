"""Looking results up: at a place of the plan, of an approach, over the seeds."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from experiments.prototypes.results import Row

Figure = Literal["accuracy", "auc"]


class Place(NamedTuple):
    """Where approaches are compared: everything but the seed."""

    part: str
    source: str
    split: str
    strategy: str
    round: int


class Approach(NamedTuple):
    """A way to classify; SHIPS is the head that the nodes' held-out images chose."""

    reading: str
    head: str
    trained: str = "federated"

    def __str__(self) -> str:
        """Return its name as tables show it."""
        head = "the head that ships" if self.head == "ships" else self.head
        whose = {"local": " (each node's own)", "piggyback": " (piggyback)"}.get(self.reading, "")
        before = "" if self.trained == "federated" else f"{self.trained}: "
        return f"{before}{head}{whose}"


LINEAR = Approach("global", "linear")
NEAREST_MEAN = Approach("consistent", "nearest-mean")
LDA = Approach("consistent", "lda")
SHIPS = Approach("", "ships")


class Results:
    """All rows, found by place, approach and seed."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._found: dict[tuple[Place, Approach], dict[int, Row]] = {}
        for row in rows:
            place = Place(row.part, row.source, row.split, row.strategy, row.round)
            ways = [Approach(row.reading, row.head, row.trained)]
            ways += [Approach("", "ships", row.trained)] if row.ships else []
            for way in ways:
                self._found.setdefault((place, way), {})[row.seed] = row

    def rows(self, place: Place, approach: Approach) -> dict[int, Row]:
        """Return the row of each seed that has one."""
        return self._found.get((place, approach), {})

    def values(self, place: Place, approach: Approach, figure: Figure = "accuracy") -> dict[int, float]:
        """Return a figure of each seed for which it is defined: a share."""
        found = ((seed, getattr(row, figure)) for seed, row in self.rows(place, approach).items())
        return {seed: float(value) for seed, value in found if value is not None}

    def pairs(
        self, place: Place, ours: Approach, theirs: Approach, figure: Figure = "accuracy"
    ) -> list[tuple[float, float]]:
        """Return (ours, theirs) of each seed that has both, in the order of the seeds."""
        some, others = self.values(place, ours, figure), self.values(place, theirs, figure)
        return [(some[seed], others[seed]) for seed in sorted(some.keys() & others.keys())]

    def differences(self, place: Place, ours: Approach, theirs: Approach) -> list[float]:
        """Return ours minus theirs of each seed in percentage points, so rounded that 80.3 - 80 is 0.3."""
        return [round(100 * (one - other), 9) for one, other in self.pairs(place, ours, theirs)]
