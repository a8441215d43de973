"""How messages are written and sent, and replies fetched and read, one at a time, so that one is in memory.

There are two formats: that of this app's nodes, and Flower's usual records.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, cast

import numpy as np
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fl_app.errors import FederationError, RejectedReply
from fl_app.flower import DecodeError, ErrorCode, ObjectPushError
from fl_app.logs import clean_text
from fl_app.messages.arrays import Weights, num_bytes, numpy_like, packed
from fl_app.messages.records import Reply, instruction_config, read_reply, read_sums
from fl_app.strategies.outcomes import RoundRecord, Traffic
from fl_app.sums import Sums

SUMS = "sums"  # the record of additive sums in a plain reply
NODE_EMA = "node-ema"  # the record of a node's own average

_POLL_SECONDS = 0.1
_PUSHES = 5  # a SuperLink that starts anew breaks off at most one or two

log = logging.getLogger(__name__)


def send_and_receive(
    grid: Grid,
    messages: Iterable[Message],
    deadline_seconds: float,
    traffic: Traffic | None = None,
    pack: Callable[[RecordDict], RecordDict] = packed,
) -> Iterator[Message]:
    """Send messages and yield replies as they arrive, until all have arrived or the deadline has passed.

    Flower's own `send_and_receive` returns a list of all replies; asking for each one by its id lets the caller drop
    one before the next is fetched.

    Args:
        grid: Flower's connection to the nodes.
        messages: at most one for each node.
        deadline_seconds: counted from the call; replies that come later are never fetched.
        traffic: counter to which the bytes are added.
        pack: encodes a content for sending; a content that messages share is packed once, and stays shared.
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
    message_ids = _push(grid, batch)
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


def _push(grid: Grid, batch: list[Message]) -> list[str | None]:
    """Hand messages to the SuperLink and return their ids, None for those that it cannot deliver.

    A SuperLink that is killed between storing an object and saying so is asked for the same object again, and then
    refuses it as no longer expected. Pushing the same messages once more is safe: their ids are digests of what they
    hold, the SuperLink keeps one of each, and asks for the objects that it lacks.
    """
    for tried in range(1, _PUSHES + 1):
        try:
            message_ids: list[str | None] = list(grid.push_messages(batch))
        except ObjectPushError as error:
            log.warning("The messages did not reach the SuperLink as a whole (try %d of %d): %s", tried, _PUSHES, error)
            time.sleep(_POLL_SECONDS)
            continue
        if len(message_ids) == len(batch):
            return message_ids
        raise FederationError(
            f"The SuperLink took {len(message_ids)} of {len(batch)} messages: they are too large for it (HTTP 413). "
            "Raise the limit of the size of a request in front of it (such as nginx's client_max_body_size)."
        )
    raise FederationError(
        f"The SuperLink did not take the messages in {_PUSHES} tries. Look into its log, then go on with resume=auto."
    )


def _pull(grid: Grid, message_id: str, instruction: Message, traffic: Traffic) -> Message | None:
    """Return the answer to an instruction, an error if it cannot be read; None if it has not arrived.

    The answer is attributed to the node that was asked, whatever the reply's own metadata claim. Errors that Flower
    creates at the server are attributed to that node, too.
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
    """A grid that shows only chosen nodes, so that Flower's strategies pick exactly those."""

    def __init__(self, node_ids: list[int]) -> None:
        self._node_ids = node_ids

    def get_node_ids(self) -> list[int]:
        """Return the chosen nodes."""
        return list(self._node_ids)


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
            weights=numpy_like(self.arrayrecord_key, content.array_records[self.arrayrecord_key], like),
            node_ema=numpy_like(NODE_EMA, node_ema, like) if node_ema is not None else None,
            sums=self.read_sums(content, sums) if sums else {},
            metrics=metrics,
        )

    def read_sums(self, content: RecordDict, like: Sums) -> dict[str, NDArray[np.float64]]:
        """Read the record `sums`."""
        if SUMS not in content.array_records:
            raise RejectedReply(f"it holds no arrays {SUMS!r}")
        found = numpy_like(SUMS, content.array_records[SUMS], like, has_dtypes=False)
        if any(value.shape != like[key].shape for key, value in found.items()):  # not what it said
            raise RejectedReply("its sums have other shapes than they say")
        return {key: np.asarray(value, dtype=np.float64) for key, value in found.items()}
