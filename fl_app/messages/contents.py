"""What a message holds, without its values: names, shapes, types, size, and the SHA-256 of all of it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import Array, Message, RecordDict

from fl_app.messages.records import CONFIG

_NUMBER_BYTES = 8  # of each number of a metric or a config record


@dataclass(frozen=True)
class Contents:
    """What a message holds.

    Attributes:
        records: the form of each value, such as `F32 [64, 3, 7, 7]`, by record and name; never a value.
        num_bytes: of all values, packed arrays with their header.
        sha256: of all names, types, shapes and values, as `digest` says.
    """

    records: dict[str, dict[str, str]]
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Asked:
    """What a message to a node says of itself; a damaged one says less.

    Attributes:
        run: the run's name; empty if the message does not tell.
        task: name of the task or baseline; empty if the message is about none.
        round_number: None if the message is of no round.
    """

    run: str
    task: str
    round_number: int | None


def contents_of(message: Message) -> Contents:
    """Return what a reply holds; of an error the text alone."""
    if message.has_error():
        text = str(message.error.reason).encode(errors="replace")
        records = {"error": {"text": f"text of {len(text)} bytes"}}
        return Contents(records, len(text), hashlib.sha256(text).hexdigest())
    content = message.content
    records = {name: _forms(record) for name, record in content.items()}
    num_bytes = sum(_size(value) for record in content.values() for value in record.values())
    return Contents(records, num_bytes, digest(content))


def digest(content: RecordDict) -> str:
    """Return the SHA-256 of a message's content, the same before it is sent and after it has arrived.

    Over each value, sorted by record and name: a line of JSON with record, name, type, shape and number of bytes; then
    the bytes. An array's bytes are its own, another value's are its JSON. Nothing is copied.
    """
    found = hashlib.sha256()
    for name, record in sorted(content.items()):
        for key, value in sorted(record.items()):
            if isinstance(value, Array):
                kind, shape, data = value.dtype, list(value.shape), value.data
            else:
                kind, shape, data = type(record).__name__, [], json.dumps(value, default=bytes.hex).encode()
            found.update(json.dumps([name, key, kind, shape, len(data)]).encode() + b"\n")
            found.update(data)
    return found.hexdigest()


def what_is_asked(message: Message) -> Asked:
    """Return what a message to a node says of itself; never raises, whatever the message holds."""
    config = message.content.config_records.get(CONFIG) if message.has_content() else None
    found: Mapping[str, Any] = config if config is not None else {}
    number = found.get("server-round")
    return Asked(str(found.get("run-name", "")), str(found.get("task", "")), number if type(number) is int else None)


def _forms(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the form of each value of a record; of packed arrays those of the arrays inside."""
    forms: dict[str, str] = {}
    for key, value in record.items():
        if isinstance(value, Array) and value.stype == "safetensors":  # as `arrays.pack` writes it
            length = int.from_bytes(value.data[:8], "little")
            header = json.loads(value.data[8 : 8 + length])
            forms |= {name: f"{one['dtype']} {one['shape']}" for name, one in sorted(header.items())}
        else:
            forms[key] = _form(value)
    return forms


def _form(value: object) -> str:
    if isinstance(value, Array):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, list):
        return f"list of {len(value)}"
    if isinstance(value, str | bytes):
        return f"text of {_size(value)} bytes"
    return type(value).__name__


def _size(value: object) -> int:
    if isinstance(value, Array):
        return len(value.data)
    if isinstance(value, list):
        return sum(map(_size, value))
    if isinstance(value, str | bytes):
        return len(value.encode(errors="replace") if isinstance(value, str) else value)
    return _NUMBER_BYTES
