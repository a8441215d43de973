"""Peak memory of a server that gets a reply of 200 MB, most of them of the wrong shape, above that of Flower itself.

A reply arrives as the objects that Flower's grid gets, and is inflated as Flower's grid does: the peak until then,
arrived bytes included, is Flower's own. Then the server reads and judges it. Python's allocations are counted
(tracemalloc); arrays and bytes are among them.
"""

import argparse
import tracemalloc
from collections.abc import Callable, Iterable

import numpy as np
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from benchmarks.output import Row, parser, run
from fl_app.errors import RejectedReply
from fl_app.flower import identify, name_message
from fl_app.messages.arrays import Weights, array_record, check_arrays, pack
from fl_app.messages.records import TRAIN
from fl_app.strategies.admission import check_sums
from fl_app.strategies.outcomes import RoundRecord
from fl_app.strategies.transport import PackedWire, PlainWire
from fl_app.sums import Sums

_BYTES = 200_000_000
_FEW: Sums = {"raw/x": np.zeros(1)}  # the sums of training replies
_PACKED = PackedWire("diffusion", "run", "")
_PLAIN = PlainWire("num-examples", "weights")
_METRICS = ("num-examples", "loss-sum", "loss-count", "seconds", "num-pieces")

Read = Callable[[Message, Weights], None]


def _packed_reply(found: Weights) -> RecordDict:
    node = ConfigRecord({"site": "site-0", "task": "diffusion", "server-round": 1})
    metrics = MetricRecord(dict.fromkeys(_METRICS, 1.0))
    return RecordDict({"weights": pack(found), "statistics": pack(_FEW), "metrics": metrics, "node": node})


def _plain_reply(found: Weights) -> RecordDict:
    return RecordDict({"weights": array_record(found), "metrics": MetricRecord({"num-examples": 1})})


def _sums(wire: PackedWire | PlainWire) -> Read:
    def read(message: Message, expected: Weights) -> None:
        check_sums(wire.read_sums(message.content, expected), expected)  # type: ignore[arg-type]

    return read


def _weights(wire: PackedWire | PlainWire, sums: Sums) -> Read:
    def read(message: Message, expected: Weights) -> None:
        reply = wire.read_reply(message, "site-0", RoundRecord("diffusion", 1), expected, sums)
        check_arrays(reply.weights, expected)

    return read


_KINDS: dict[str, tuple[str, Callable[[Weights], RecordDict], Read]] = {
    "sums": ("float64", lambda found: RecordDict({"statistics": pack(found)}), _sums(_PACKED)),
    "weights": ("float32", _packed_reply, _weights(_PACKED, _FEW)),
    "sums of an ordinary app": ("float64", lambda found: RecordDict({"sums": array_record(found)}), _sums(_PLAIN)),
    "weights of an ordinary app": ("float32", _plain_reply, _weights(_PLAIN, {})),
}
_REPLIES: dict[str, Callable[[str], Weights]] = {
    "uint8": lambda dtype: _made("uint8"),
    "float16": lambda dtype: _made("float16"),
    "another shape": lambda dtype: _made(dtype, (2, -1)),
    "another name": lambda dtype: _made(dtype, name="y"),
    "as asked for": lambda dtype: _made(dtype),
}


def _made(dtype: str, shape: tuple[int, ...] = (-1,), name: str = "x") -> Weights:
    numbers = np.arange(_BYTES // 8, dtype=np.int64)  # all chunks of a message differ, so that Flower sends each
    return {name: (numbers.astype(np.float64) if dtype == "float64" else numbers).view(dtype).reshape(shape)}


def measure(arguments: argparse.Namespace) -> Iterable[Row]:
    """Yield a row for each kind of reply and for what it holds."""
    identify(1, 1)
    for kind, (dtype, build, read) in _KINDS.items():
        expected: Weights = {"x": np.zeros(_BYTES // np.dtype(dtype).itemsize, dtype)}
        for what, make in _REPLIES.items():
            tracemalloc.start()
            try:
                name, objects = _objects(build(make(dtype)))
                yield {"reply": kind, "it holds": what, **_receive(name, objects, read, expected)}
            finally:
                tracemalloc.stop()


def _objects(content: RecordDict) -> tuple[str, dict[str, bytes]]:
    """Return the id of a message and the objects in which it travels."""
    message = Message(content, dst_node_id=1, message_type=TRAIN)
    name_message(message, message.object_id)
    return message.object_id, {key: one.deflate() for key, one in get_all_nested_objects(message).items()}


def _receive(name: str, objects: dict[str, bytes], read: Read, expected: Weights) -> Row:
    tracemalloc.reset_peak()
    message = inflate_object_from_contents(name, objects)
    assert isinstance(message, Message)
    held, flower = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    try:
        read(message, expected)
        outcome = "admitted"
    except RejectedReply:
        outcome = "rejected"
    ours = tracemalloc.get_traced_memory()[1]
    return {
        "Flower's peak MB": flower / 1e6,
        "held MB": held / 1e6,
        "peak of judging MB": ours / 1e6,
        "above held MB": (ours - held) / 1e6,
        "outcome": outcome,
    }


if __name__ == "__main__":
    run(measure, parser(__doc__).parse_args())
