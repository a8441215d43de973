"""Formats of instructions and replies: this app's own, and Flower's usual records."""

from typing import Protocol, cast

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from numpy.typing import NDArray

from fl_app.messages.arrays import Weights, packed, to_weights
from fl_app.messages.incoming import RejectedReply
from fl_app.messages.records import Reply, instruction_config, read_reply, read_sums
from fl_app.strategies.outcomes import RoundRecord
from fl_app.sums import Sums

SUMS = "sums"  # the record of additive sums in a plain reply
NODE_EMA = "node-ema"  # the record of a node's own average


class Wire(Protocol):
    """A format of instructions and replies."""

    def config(self, round_number: int) -> ConfigRecord:
        """Return an instruction's config record."""

    def pack(self, content: RecordDict) -> RecordDict:
        """Return an instruction's content as it is sent."""

    def read_reply(self, message: Message, site: str, record: RoundRecord, like: Weights, sums: Sums) -> Reply:
        """Read a training reply that should hold weights as `like` and sums as `sums`; raises RejectedReply."""

    def read_sums(self, content: RecordDict, like: Sums) -> Sums:
        """Read an answer of additive sums; raises RejectedReply."""


class PackedWire:
    """The format of this app's nodes (`messages.records`); each record of arrays is sent as a single array."""

    def __init__(self, task: str, run_name: str, run_folder: str) -> None:
        self.task = task
        self.run_name = run_name
        self.run_folder = run_folder

    def config(self, round_number: int) -> ConfigRecord:
        """Return a record of the task, the round and the run."""
        return instruction_config(self.task, round_number, self.run_name, self.run_folder)

    def pack(self, content: RecordDict) -> RecordDict:
        """Pack all arrays."""
        return packed(content)

    def read_reply(self, message: Message, site: str, record: RoundRecord, like: Weights, sums: Sums) -> Reply:
        """Read a reply, which names its own site, task and round."""
        return read_reply(message, like, sums)

    def read_sums(self, content: RecordDict, like: Sums) -> Sums:
        """Read additive sums."""
        return read_sums(content, like)


class PlainWire:
    """Flower's usual records: one of arrays and one of metrics; sums, if asked for, are a record of arrays `sums`."""

    def __init__(self, weighted_by_key: str, arrayrecord_key: str) -> None:
        self.weighted_by_key = weighted_by_key
        self.arrayrecord_key = arrayrecord_key

    def config(self, round_number: int) -> ConfigRecord:
        """Return a record of the round's number."""
        return ConfigRecord({"server-round": round_number})

    def pack(self, content: RecordDict) -> RecordDict:
        """Return the content unchanged."""
        return content

    def read_reply(self, message: Message, site: str, record: RoundRecord, like: Weights, sums: Sums) -> Reply:
        """Read weights, the number of examples, sums and an EMA; the reply's other metrics are kept for averaging."""
        content = message.content
        metrics = next(iter(content.metric_records.values()), None)
        if metrics is None or not isinstance(metrics.get(self.weighted_by_key), int | float):
            raise RejectedReply(f"it holds no metric {self.weighted_by_key!r}")
        if self.arrayrecord_key not in content.array_records:
            raise RejectedReply(f"it holds no arrays {self.arrayrecord_key!r}")
        node_ema = content.array_records.get(NODE_EMA)
        return Reply(
            site=site,
            task=record.task,
            round_number=record.round_number,
            weight=float(cast(float, metrics[self.weighted_by_key])),
            weights=to_weights(content.array_records[self.arrayrecord_key]),
            node_ema=to_weights(node_ema) if node_ema is not None else None,
            sums=self.read_sums(content, sums) if sums else {},
            metrics=metrics,
        )

    def read_sums(self, content: RecordDict, like: Sums) -> dict[str, NDArray[np.float64]]:
        """Read the record `sums`."""
        if SUMS not in content.array_records:
            raise RejectedReply(f"it holds no arrays {SUMS!r}")
        found = to_weights(content.array_records[SUMS])
        return {key: np.asarray(value, dtype=np.float64) for key, value in found.items()}
