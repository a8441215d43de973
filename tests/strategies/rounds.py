"""A federation of one number: node k adds k to it, and holds 10 k images; faults by round and node."""

import time
from collections.abc import Callable, Iterable

import numpy as np
from flwr.app import ArrayRecord, Error, Message, MetricRecord, RecordDict

from benchmarks.instant_grid import InstantGrid
from fl_app.messages.arrays import Weights, array_record, to_weights

Fault = Callable[[Message], Message | None]


def initial() -> ArrayRecord:
    """Return the number 0 and an empty array."""
    return array_record({"x": np.zeros((1, 2), np.float32), "none": np.zeros(0, np.float32)})


def value(weights: Weights | ArrayRecord) -> float:
    """Return the number."""
    arrays = to_weights(weights) if isinstance(weights, ArrayRecord) else weights
    return float(arrays["x"][0, 0])


def answer(instruction: Message, change: float, images: float) -> Message:
    """Return a reply that adds `change` to the number."""
    weights = to_weights(instruction.content.array_records["arrays"])
    moved: Weights = {key: np.add(array, np.float32(change)) for key, array in weights.items()}
    metrics = MetricRecord({"num-examples": images})
    return Message(RecordDict({"arrays": array_record(moved), "metrics": metrics}), reply_to=instruction)


class Counting(InstantGrid):
    """Answers in the order asked for.

    Attributes:
        faults: what a node answers in place of its reply, by (round, node); None: nothing at all.
        asked: the nodes of each round.
    """

    def __init__(self, num_nodes: int, faults: dict[tuple[int, int], Fault] | None = None) -> None:
        super().__init__(range(1, num_nodes + 1))
        self.faults = faults or {}
        self.asked: dict[int, list[int]] = {}

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Answer."""
        for key in message_ids:
            instruction = self.pending[key]
            node = instruction.metadata.dst_node_id
            number = int(str(instruction.content.config_records["config"]["server-round"]))
            fault = self.faults.get((number, node))
            reply = fault(instruction) if fault else answer(instruction, node, 10.0 * node)
            if reply is None:
                time.sleep(0.01)
                continue
            self.asked.setdefault(number, []).append(node)
            del self.pending[key]
            yield reply


def crash(instruction: Message) -> Message:
    """Answer with an error."""
    return Message(Error(2, "the disk is full"), reply_to=instruction)


def silence(instruction: Message) -> None:
    """Do not answer."""
