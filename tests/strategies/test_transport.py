"""Answers come from the node that was asked; what cannot be read, and who is silent, costs nobody else."""

from collections.abc import Iterable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, RecordDict

from benchmarks.instant_grid import InstantGrid
from fl_app.errors import FederationError
from fl_app.flower import DecodeError, ObjectPushError
from fl_app.messages.arrays import num_bytes
from fl_app.strategies.outcomes import Traffic
from fl_app.strategies.transport import send_and_receive


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
    replies = list(send_and_receive(Answering(fault), messages, 10.0))
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


class Silent(InstantGrid):
    """Node 2 never answers."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Answer all but node 2."""
        for key in message_ids:
            instruction = self.pending[key]
            if instruction.metadata.dst_node_id != 2:
                yield Message(instruction.content, reply_to=instruction)


def test_who_is_silent_at_the_deadline_is_left_out_and_the_bytes_of_the_others_are_counted() -> None:
    content = RecordDict({"x": ArrayRecord({"a": Array(np.ones(1000))})})
    packs: list[RecordDict] = []

    def pack(record: RecordDict) -> RecordDict:
        packs.append(record)
        return record

    traffic = Traffic()
    messages = [Message(content, dst_node_id=node, message_type="train") for node in (1, 2, 3)]
    replies = list(send_and_receive(Silent([1, 2, 3]), messages, 0.0, traffic, pack))
    assert [reply.metadata.src_node_id for reply in replies] == [1, 3]
    assert len(packs) == 1  # the content that all share
    size = num_bytes(content)
    assert size >= 8000 and (traffic.down, traffic.up) == (3 * size, 2 * size)


def test_texts_of_errors_are_made_harmless() -> None:
    class Failing(InstantGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            for key in message_ids:
                yield Message(Error(2, "\x1b[2J" + "x" * 10**6), reply_to=self.pending.pop(key))

    (reply,) = send_and_receive(Failing([1]), [Message(RecordDict(), dst_node_id=1, message_type="train")], 10.0)
    reason = str(reply.error.reason)
    assert "\x1b" not in reason and len(reason) < 300


class Restarted(InstantGrid):
    """Its SuperLink breaks off pushes, as one does that is killed between storing an object and saying so."""

    def __init__(self, times: int) -> None:
        super().__init__([1, 2])
        self.times = times
        self.taken: list[list[Message]] = []

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take the messages, and fail a few times."""
        self.taken.append(list(messages))
        if len(self.taken) <= self.times:
            raise ObjectPushError("an object", 1, "a session")
        return super().push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Answer all."""
        for key in message_ids:
            yield Message(RecordDict(), reply_to=self.pending.pop(key))


def test_messages_that_a_restarted_superlink_broke_off_are_pushed_again() -> None:
    messages = [Message(RecordDict(), dst_node_id=node, message_type="train") for node in (1, 2)]
    grid = Restarted(2)
    assert len(list(send_and_receive(grid, messages, 10.0))) == 2
    assert len(grid.taken) == 3
    assert all(one is other for batch in grid.taken for one, other in zip(batch, messages, strict=True))


def test_a_superlink_that_never_takes_the_messages_ends_the_run_with_one_clear_error() -> None:
    messages = [Message(RecordDict(), dst_node_id=1, message_type="train")]
    with pytest.raises(FederationError, match="did not take the messages in 5 tries"):
        list(send_and_receive(Restarted(99), messages, 10.0))


def test_messages_that_are_too_large_for_the_way_are_one_clear_error() -> None:
    class Small(Restarted):
        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            return []

    messages = [Message(RecordDict(), dst_node_id=1, message_type="train")]
    with pytest.raises(FederationError, match=r"0 of 1 messages.*HTTP 413"):
        list(send_and_receive(Small(0), messages, 10.0))
