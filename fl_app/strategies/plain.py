"""What an ordinary Flower app needs of a strategy's surroundings: Flower's records, all nodes, and no observer."""

import time
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fl_app.errors import FederationError
from fl_app.messages.arrays import Weights, to_weights
from fl_app.messages.descriptions import SiteDescription
from fl_app.messages.incoming import MalformedReply
from fl_app.messages.records import Reply
from fl_app.strategies.outcomes import NodeOutcome, RoundRecord
from fl_app.sums import Statistics

SUMS = "sums"  # the record of additive sums in a reply
NODE_EMA = "node-ema"  # the record of a node's own average

_POLL_SECONDS = 0.5


class PlainWire:
    """Flower's usual records: one of arrays and one of metrics; sums, if asked for, are a record of arrays `sums`."""

    def __init__(self, weighted_by_key: str, arrayrecord_key: str) -> None:
        self.weighted_by_key = weighted_by_key
        self.arrayrecord_key = arrayrecord_key

    def config(self, round_number: int) -> ConfigRecord:
        """Return the number of the round."""
        return ConfigRecord({"server-round": round_number})

    def pack(self, content: RecordDict) -> RecordDict:
        """Return the content as it is."""
        return content

    def read_reply(self, message: Message, site: str, record: RoundRecord, like: Weights, sums: Statistics) -> Reply:
        """Read weights, the number of examples, sums and an EMA; the reply's other metrics are kept for averaging."""
        content = message.content
        metrics = next(iter(content.metric_records.values()), None)
        if metrics is None or not isinstance(metrics.get(self.weighted_by_key), int | float):
            raise MalformedReply(f"it holds no metric {self.weighted_by_key!r}")
        if self.arrayrecord_key not in content.array_records:
            raise MalformedReply(f"it holds no arrays {self.arrayrecord_key!r}")
        node_ema = content.array_records.get(NODE_EMA)
        return Reply(
            site=site,
            task=record.task,
            round_number=record.round_number,
            weight=float(cast(float, metrics[self.weighted_by_key])),
            weights=to_weights(content.array_records[self.arrayrecord_key]),
            node_ema=to_weights(node_ema) if node_ema is not None else None,
            statistics=self.read_sums(content, sums) if sums else {},
            metrics=metrics,
        )

    def read_sums(self, content: RecordDict, like: Statistics) -> dict[str, NDArray[np.float64]]:
        """Read the record `sums`."""
        if SUMS not in content.array_records:
            raise MalformedReply(f"it holds no arrays {SUMS!r}")
        return _float64(content.array_records[SUMS])


class Everyone:
    """All nodes that are connected take part, as `node-<id>`; nobody describes anything."""

    unfit: Mapping[str, NodeOutcome] = {}

    def __init__(self, min_nodes: int, wait_seconds: float = 3600.0) -> None:
        self.min_nodes = min_nodes
        self.wait_seconds = wait_seconds
        self._known: set[str] = set()

    def begin(self, grid: Grid) -> None:
        """Wait for `min_nodes`."""
        self.wait(grid)

    def wait(self, grid: Grid) -> None:
        """Wait for `min_nodes`."""
        started = time.monotonic()
        while len(here := self.here(grid)) < self.min_nodes:
            if time.monotonic() - started > self.wait_seconds:
                raise FederationError(f"{len(here)} of {self.min_nodes} nodes connected in {self.wait_seconds:g} s.")
            time.sleep(_POLL_SECONDS)
        self._known |= here.keys()

    def here(self, grid: Grid) -> dict[str, int]:
        """Return all nodes."""
        return {f"node-{node}": node for node in sorted(grid.get_node_ids())}

    def missing(self, grid: Grid) -> list[str]:
        """Return the nodes that were there before."""
        return sorted(self._known - self.here(grid).keys())

    def described(self, site: str) -> SiteDescription | None:
        """Return None."""
        return None

    def held_classes(self, num_classes: int) -> list[bool]:
        """Return True for all classes: the moments tell which ones have images."""
        return [True] * num_classes

    def test_parts(self) -> str:
        """Return `own parts`."""
        return "own parts"


class Unwatched:
    """An observer that does nothing."""

    def waiting(self, connected: int, needed: int, missing: Sequence[str]) -> None:
        """Do nothing."""

    def measuring(self, answered: int, asked: int) -> None:
        """Do nothing."""

    def progressed(self, record: RoundRecord) -> None:
        """Do nothing."""

    def round_ended(self, record: RoundRecord, before: Weights, after: Weights) -> None:
        """Do nothing."""

    def rounds_over(self) -> None:
        """Do nothing."""


def _float64(record: ArrayRecord) -> dict[str, NDArray[np.float64]]:
    return {key: np.asarray(value, dtype=np.float64) for key, value in to_weights(record).items()}
