"""Lies about a whole message: about each value of each record, and about the records themselves."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fl_app.messages.arrays import pack, unpack
from tests.lies.values import about_array, lies_about

Record = ArrayRecord | ConfigRecord | MetricRecord
Make = Callable[[], Record]

MESSAGE = "the message"  # in place of a field


@dataclass(frozen=True)
class Lie:
    """A lie of one site in one message.

    Attributes:
        kind: of the message.
        field: that is false: record and key, such as `statistics/raw/nll`.
        name: of the lie.
        make: makes the content of the false message.
    """

    kind: str
    field: str
    name: str
    make: Callable[[], RecordDict]

    @property
    def id(self) -> str:
        """Kind, field and lie in words."""
        return f"{self.kind} {self.field}: {self.name}"


def fields_of(content: RecordDict) -> list[str]:
    """Return every field of a message: record and key; of packed arrays, the arrays inside."""
    names = []
    for record_name, record in content.items():
        names += [f"{record_name}/{key}" for key in _keys(record)]
    return names


def lies_in(kind: str, content: RecordDict, is_chosen: Callable[[str], bool] = lambda field: True) -> Iterator[Lie]:
    """Yield lies about every field of an honest message, and about each record as a whole.

    Args:
        kind: of the message.
        content: what an honest site sends.
        is_chosen: tells of a field whether to lie about it.
    """
    for record_name, record in content.items():
        fields = {key for key in _keys(record) if is_chosen(f"{record_name}/{key}")}
        lies = _about_arrays(record, fields) if isinstance(record, ArrayRecord) else _about_values(record, fields)
        for key, name, make in lies:
            field = f"{record_name}/{key}" if key else record_name
            yield Lie(kind, field, name, partial(_with, content, record_name, make))
        yield Lie(kind, record_name, "missing", partial(_without, content, record_name))
        other = MetricRecord({"x": 1}) if isinstance(record, ConfigRecord) else ConfigRecord({"x": 1})
        yield Lie(kind, record_name, "another kind of record", partial(_with, content, record_name, _always(other)))
    more = ArrayRecord({"x": Array(np.ones(9))})
    yield Lie(kind, MESSAGE, "an additional record", partial(_with, content, "more", _always(more)))
    if "node-ema" not in content:
        average = _always(pack({}))
        yield Lie(kind, MESSAGE, "an average that was not asked for", partial(_with, content, "node-ema", average))
    yield Lie(kind, MESSAGE, "empty", RecordDict)


def _keys(record: Record) -> list[str]:
    return list(unpack(record) if isinstance(record, ArrayRecord) else record)


def _about_arrays(record: ArrayRecord, fields: set[str]) -> Iterator[tuple[str, str, Make]]:
    """Yield key, name and maker of lies about a record of packed arrays; no key: about the record."""
    arrays, ((packed, sent),) = unpack(record), record.items()
    data = sent.data

    def of_bytes(false: bytes) -> ArrayRecord:
        return ArrayRecord({packed: Array(sent.dtype, (len(false),), sent.stype, false)})

    for key in sorted(fields):
        for name, array in about_array(arrays[key]).items():
            yield key, name, partial(pack, {**arrays, key: array})
        yield key, "missing", partial(pack, {other: array for other, array in arrays.items() if other != key})
    yield "", "an additional array", partial(pack, {**arrays, "more": np.zeros(1)})
    yield "", "no array", partial(pack, {})
    for name, factor in (("negative", -1), ("zero", 0), ("doubled", 2), ("a thousand times", 1000)):
        yield "", f"all {name}", partial(_all_times, arrays, factor)
    yield "", "cut off", lambda: of_bytes(data[: len(data) // 2])
    yield "", "no bytes", lambda: of_bytes(b"")
    yield "", "zeros", lambda: of_bytes(bytes(len(data)))
    yield "", "a header of 2^63 bytes", lambda: of_bytes(b"\xff" * 8 + data[8:])
    yield "", "not packed", lambda: ArrayRecord({key: Array(one) for key, one in arrays.items()})
    yield "", "packed twice", lambda: ArrayRecord({packed: sent, "more": sent})
    yield "", "under another key", lambda: ArrayRecord({"more": sent})


def _about_values(record: ConfigRecord | MetricRecord, fields: set[str]) -> Iterator[tuple[str, str, Make]]:
    """Yield key, name and maker of lies about a record of values; no key: about the record."""
    for key in sorted(fields):
        for name, false in lies_about(record[key]).items():
            if (changed := _record_of(record, {**record, key: false})) is not None:
                yield key, name, _always(changed)
        changed = _record_of(record, {other: value for other, value in record.items() if other != key})
        assert changed is not None
        yield key, "missing", _always(changed)
    more = _record_of(record, {**record, "more": 1})
    assert more is not None
    yield "", "an additional value", _always(more)


def _all_times(arrays: Mapping[str, NDArray[np.generic]], factor: int) -> ArrayRecord:
    return pack({key: np.asarray(np.multiply(one, factor, dtype=one.dtype)) for key, one in arrays.items()})


def _always(record: Record) -> Make:
    return lambda: record


def _record_of(like: ConfigRecord | MetricRecord, values: Mapping[str, object]) -> ConfigRecord | MetricRecord | None:
    """Return a record of these values; None if Flower's records cannot hold them, so that none can be sent."""
    try:
        return type(like)(values)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _with(content: RecordDict, name: str, make: Make) -> RecordDict:
    return RecordDict({**content, name: make()})


def _without(content: RecordDict, name: str) -> RecordDict:
    return RecordDict({other: record for other, record in content.items() if other != name})
