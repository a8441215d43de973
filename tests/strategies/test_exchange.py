"""Answers come from the node that was asked; one that cannot be read costs nobody else."""

from collections.abc import Iterable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict

from benchmarks.instant_grid import InstantGrid
from fl_app.flower import DecodeError
from fl_app.strategies.transport import exchange


class Answering(InstantGrid):
    """Answers at once; node 2 in another one's name, or with what cannot be read."""

    def __init__(self, fault: Exception | int) -> None:
        super().__init__([1, 2])
        self.fault = fault

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Answer one message."""
        for key in message_ids:
            instruction = self.pending.pop(key)
            reply = Message(RecordDict({"x": ArrayRecord({"a": Array(np.ones(1))})}), reply_to=instruction)
            if instruction.metadata.dst_node_id == 2:
                if isinstance(self.fault, Exception):
                    raise self.fault
                reply.metadata.__dict__["_src_node_id"] = self.fault
            yield reply


def ask(fault: Exception | int) -> dict[int, Message]:
    messages = [Message(RecordDict(), dst_node_id=node, message_type="train") for node in (1, 2)]
    replies = list(exchange(Answering(fault), messages, 10.0))
    assert len(replies) == 2
    return {reply.metadata.src_node_id: reply for reply in replies}


@pytest.mark.parametrize("name", [1, 777])
def test_a_node_cannot_answer_in_the_name_of_another(name: int) -> None:
    replies = ask(name)
    assert sorted(replies) == [1, 2] and not any(reply.has_error() for reply in replies.values())


@pytest.mark.parametrize(
    "fault", [DecodeError("no protobuf"), AttributeError("no value"), KeyError("x"), ValueError("y")]
)
def test_an_answer_that_cannot_be_read_is_an_error_of_its_node_alone(fault: Exception) -> None:
    replies = ask(fault)
    assert not replies[1].has_error()
    assert str(replies[2].error.reason) == f"its answer cannot be read ({type(fault).__name__})"
