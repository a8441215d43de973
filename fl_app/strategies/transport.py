"""Messages out, replies in one by one as they come, never more than one at a time in memory."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid

from fl_app.flower import DecodeError, ErrorCode
from fl_app.messages.arrays import num_bytes, packed
from fl_app.messages.incoming import clean_text

_POLL_SECONDS = 0.1


@dataclass
class Traffic:
    """Bytes of the arrays that went through the wire.

    Attributes:
        down: to the nodes.
        up: from the nodes.
    """

    down: int = 0
    up: int = 0


def send_and_receive(
    grid: Grid,
    messages: Iterable[Message],
    deadline_seconds: float,
    traffic: Traffic | None = None,
    pack: Callable[[RecordDict], RecordDict] = packed,
) -> Iterator[Message]:
    """Send messages and yield replies as they arrive, until all are there or the deadline has passed.

    Flower's own `send_and_receive` returns a list of all replies; asking for each one by its id lets the caller drop
    one before the next is fetched.

    Args:
        grid: Flower's connection to the nodes.
        messages: at most one for each node.
        deadline_seconds: counted from the call; replies that come later are never fetched.
        traffic: is added to.
        pack: makes a content ready for the way; what several messages share is packed once, and stays shared.
    """
    started = time.monotonic()
    batch = list(messages)
    traffic = traffic or Traffic()
    contents = {id(message.content): message.content for message in batch}
    ready = {key: pack(content) for key, content in contents.items()}
    for message in batch:
        message.content = ready[id(message.content)]
    sizes = {id(message.content): num_bytes(message.content) for message in batch}
    traffic.down += sum(sizes[id(message.content)] for message in batch)
    message_ids = list(grid.push_messages(batch))
    pending = {key: message for key, message in zip(message_ids, batch, strict=True) if key is not None}
    del batch
    while pending:
        waiting = len(pending)
        for message_id, instruction in list(pending.items()):
            answer = _pull(grid, message_id, instruction, traffic)
            if answer is not None:
                del pending[message_id]
                yield answer
                del answer
        if pending and time.monotonic() - started > deadline_seconds:
            return
        if len(pending) == waiting:
            time.sleep(_POLL_SECONDS)


def _pull(grid: Grid, message_id: str, instruction: Message, traffic: Traffic) -> Message | None:
    """Return the answer to an instruction, None while there is none; one that cannot be read is an error of its node.

    Whatever a reply says of itself counts for nothing, since its sender writes it: the answer comes from the node that
    was asked. Errors that Flower makes up at the server in its own name become the node's, too.
    """
    try:
        for reply in grid.pull_messages([message_id]):
            if reply.has_error():
                reason = clean_text(reply.error.reason or "no reason was given")  # a text from outside
                return Message(Error(reply.error.code, reason), reply_to=instruction)
            traffic.up += num_bytes(reply.content)
            return Message(reply.content, reply_to=instruction)
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, DecodeError) as error:
        reason = f"its answer cannot be read ({type(error).__name__})"
        return Message(Error(ErrorCode.UNKNOWN, reason), reply_to=instruction)
    return None


class ChosenNodes:
    """A grid that shows only chosen nodes: so Flower's strategies take exactly those, by their own code."""

    def __init__(self, node_ids: list[int]) -> None:
        self._node_ids = node_ids

    def get_node_ids(self) -> list[int]:
        """Return the chosen nodes."""
        return list(self._node_ids)
