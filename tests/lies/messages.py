"""Lies about a whole message: about each value of each record, and about the records themselves."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fl_app.messages.arrays import pack, unpack
from tests.lies.values import about_array, lies_about


@dataclass(frozen=True)
class Lie:
    """A lie of one site in one message.

    Attributes:
        kind: of the message.
        field: that is false: record and key, such as `statistics/raw/nll`.
        name: of the lie.
        content: of the false message.
    """

    kind: str
    field: str
    name: str
    content: RecordDict

    @property
    def id(self) -> str:
        """Kind, field and lie in words."""
        return f"{self.kind} {self.field}: {self.name}"


def fields_of(content: RecordDict) -> list[str]:
    """Return every field of a message: record and key; of packed arrays, the arrays inside."""
    names = []
    for record_name, record in content.items():
        keys = unpack(record) if isinstance(record, ArrayRecord) else record
        names += [f"{record_name}/{key}" for key in keys]
    return names


def lies_in(kind: str, content: RecordDict, is_chosen: Callable[[str], bool] = lambda field: True) -> Iterator[Lie]:
    """Yield lies about every field of an honest message, and about each record as a whole.

    Args:
        kind: of the message.
        content: what an honest site sends.
        is_chosen: tells of a field whether to lie about it.
    """
    for record_name, record in content.items():
        if isinstance(record, ArrayRecord):
            arrays = unpack(record)
            for key, value in arrays.items():
                field = f"{record_name}/{key}"
                if not is_chosen(field):
                    continue
                for name, array in about_array(value).items():
                    yield Lie(kind, field, name, _with(content, record_name, pack({**arrays, key: array})))
                rest = {other: array for other, array in arrays.items() if other != key}
                yield Lie(kind, field, "missing", _with(content, record_name, pack(rest)))
            yield from _of_arrays(kind, content, record_name)
            continue
        for key, true in record.items():
            field = f"{record_name}/{key}"
            if not is_chosen(field):
                continue
            for name, false in lies_about(true).items():
                if (changed := _record_of(record, {**record, key: false})) is not None:
                    yield Lie(kind, field, name, _with(content, record_name, changed))
            rest_of = {other: value for other, value in record.items() if other != key}
            changed = _record_of(record, rest_of)
            assert changed is not None
            yield Lie(kind, field, "missing", _with(content, record_name, changed))
        more = _record_of(record, {**record, "more": 1})
        assert more is not None
        yield Lie(kind, record_name, "an additional value", _with(content, record_name, more))
    yield from _of_records(kind, content)


def _of_arrays(kind: str, content: RecordDict, record_name: str) -> Iterator[Lie]:
    """Yield lies about a record of packed arrays as a whole."""
    record = content.array_records[record_name]
    arrays, ((key, sent),) = unpack(record), record.items()
    data = sent.data

    def of_bytes(false: bytes) -> ArrayRecord:
        return ArrayRecord({key: Array(sent.dtype, (len(false),), sent.stype, false)})

    changed = {
        "an additional array": pack({**arrays, "more": np.zeros(1)}),
        "no array": pack({}),
        "all negative": pack({name: value * -1 for name, value in arrays.items()}),
        "all zero": pack({name: np.zeros_like(value) for name, value in arrays.items()}),
        "all doubled": pack({name: value * 2 for name, value in arrays.items()}),
        "all a thousand times": pack({name: value * 1000 for name, value in arrays.items()}),
        "cut off": of_bytes(data[: len(data) // 2]),
        "no bytes": of_bytes(b""),
        "zeros": of_bytes(bytes(len(data))),
        "a header of 2^63 bytes": of_bytes(b"\xff" * 8 + data[8:]),
        "not packed": ArrayRecord({name: Array(value) for name, value in arrays.items()}),
        "packed twice": ArrayRecord({key: sent, "more": sent}),
        "under another key": ArrayRecord({"more": sent}),
    }
    for name, false in changed.items():
        yield Lie(kind, record_name, name, _with(content, record_name, false))


def _of_records(kind: str, content: RecordDict) -> Iterator[Lie]:
    """Yield lies about the records of a message."""
    for record_name, record in content.items():
        rest = {name: other for name, other in content.items() if name != record_name}
        yield Lie(kind, record_name, "missing", RecordDict(rest))
        other = ConfigRecord({"x": 1}) if not isinstance(record, ConfigRecord) else MetricRecord({"x": 1})
        yield Lie(kind, record_name, "another kind of record", _with(content, record_name, other))
    yield Lie(
        kind, "the message", "an additional record", _with(content, "more", ArrayRecord({"x": Array(np.ones(9))}))
    )
    yield Lie(kind, "the message", "an own average that was not asked for", _with(content, "node-ema", pack({})))
    yield Lie(kind, "the message", "empty", RecordDict())


def _record_of(like: ConfigRecord | MetricRecord, values: Mapping[str, object]) -> ConfigRecord | MetricRecord | None:
    """Return a record of these values; None if Flower's records cannot hold them, so that none can be sent."""
    try:
        return type(like)(values)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _with(content: RecordDict, name: str, record: ArrayRecord | ConfigRecord | MetricRecord) -> RecordDict:
    return RecordDict({**content, name: record})
