"""How instructions and replies are written: as this app's own nodes do, or as Flower usually does."""

from typing import Protocol, cast

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from numpy.typing import NDArray

from fl_app.messages.arrays import Weights, packed, to_weights
from fl_app.messages.incoming import RejectedReply
from fl_app.messages.records import Reply, instruction_config, read_reply, read_statistics
from fl_app.strategies.outcomes import RoundRecord
from fl_app.sums import Statistics

SUMS = "sums"  # the record of additive sums in a plain reply
NODE_EMA = "node-ema"  # the record of a node's own average


class Wire(Protocol):
    """How instructions and replies are written."""

    def config(self, round_number: int) -> ConfigRecord:
        """Return what an instruction says beside weights."""

    def pack(self, content: RecordDict) -> RecordDict:
        """Return an instruction's content as it travels."""

    def read_reply(self, message: Message, site: str, record: RoundRecord, like: Weights, sums: Statistics) -> Reply:
        """Read a training reply that should hold weights as `like` and sums as `sums`; raises RejectedReply."""

    def read_sums(self, content: RecordDict, like: Statistics) -> Statistics:
        """Read an answer of additive sums; raises RejectedReply."""


class PackedWire:
    """What this app's nodes understand: see `messages.records`; each record of arrays travels as a single array."""

    def __init__(self, task: str, run_name: str, run_folder: str) -> None:
        self.task = task
        self.run_name = run_name
        self.run_folder = run_folder

    def config(self, round_number: int) -> ConfigRecord:
        """Return the task, the round and the run."""
        return instruction_config(self.task, round_number, self.run_name, self.run_folder)

    def pack(self, content: RecordDict) -> RecordDict:
        """Pack all arrays."""
        return packed(content)

    def read_reply(self, message: Message, site: str, record: RoundRecord, like: Weights, sums: Statistics) -> Reply:
        """Read a reply, which names its own site, task and round."""
        return read_reply(message, like, sums)

    def read_sums(self, content: RecordDict, like: Statistics) -> Statistics:
        """Read additive sums."""
        return read_statistics(content, like)


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
            statistics=self.read_sums(content, sums) if sums else {},
            metrics=metrics,
        )

    def read_sums(self, content: RecordDict, like: Statistics) -> dict[str, NDArray[np.float64]]:
        """Read the record `sums`."""
        if SUMS not in content.array_records:
            raise RejectedReply(f"it holds no arrays {SUMS!r}")
        found = to_weights(content.array_records[SUMS])
        return {key: np.asarray(value, dtype=np.float64) for key, value in found.items()}
