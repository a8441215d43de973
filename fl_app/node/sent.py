"""The log of what left a hospital: a line for each reply, chained by hashes, without any value."""

import fcntl
import hashlib
import json
import mmap
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fl_app.errors import DataError
from fl_app.files import KEBAB, from_json, make_private, to_json
from fl_app.options.node import NodeConfig

LOG = "sent@log.jsonl"  # no run's name has an @
FIRST = "0" * 64  # what the first line has as the hash of the line before

_END = re.compile(rb', "hash": "([0-9a-f]{64})"\}')
_END_BYTES = len(', "hash": ""}') + 64
_CUT_OFF = "the process that wrote it probably died, and then its reply did not leave."
_BEGIN = b'{"number": '


@dataclass(frozen=True)
class Sent:
    """A reply that left.

    Attributes:
        time: in UTC, when the line was written, just before the reply left.
        site: the hospital's name.
        run: name of the run, as the server told it.
        flower_run: Flower's id of the run.
        task: name of the task or baseline; empty if the message is about none.
        message: type of the message that the reply answers.
        round: None if the message is of no round.
        is_error: whether the reply is an error.
        records: the form of each value, by record and name.
        bytes: of all values.
        sha256: of the reply's content.
    """

    __pydantic_config__ = KEBAB

    time: str
    site: str
    run: str
    flower_run: str
    task: str
    message: str
    round: int | None
    is_error: bool
    records: dict[str, dict[str, str]]
    bytes: int
    sha256: str


@dataclass(frozen=True)
class _Place:
    """What a line says of its place in the chain."""

    __pydantic_config__ = KEBAB

    number: int
    before: str
    cut_off: str = ""


@dataclass(frozen=True)
class Line:
    """A line of the log that is as it was written.

    Attributes:
        number: from 1.
        hash: SHA-256 of the rest of the line.
        before: hash of the line before.
        cut_off: SHA-256 of what a process left between the line before and this one when it died; empty: nothing.
        sent: the reply.
    """

    number: int
    hash: str
    before: str
    cut_off: str
    sent: Sent


@dataclass(frozen=True)
class Verified:
    """What a log holds, and whether it is as it was written.

    Attributes:
        lines: those that can be read, in the order of the file.
        problems: what was changed, removed or moved, each with the number of the line.
        notes: lines that were cut off, which is no problem.
        exists: there is a log, be it empty.
    """

    lines: list[Line]
    problems: list[str]
    notes: list[str]
    exists: bool = True


def log_folder(options: Mapping[str, object]) -> Path | None:
    """Return the folder of a hospital's log, even if its options are wrong otherwise; None at a simulated node."""
    if "partition-id" in options and not options.get("data-path"):
        return None
    return NodeConfig.from_flat({"state-dir": str(options.get("state-dir", ""))}).state_folder


def append(folder: Path, sent: Sent) -> tuple[int, str]:
    """Append a line to the log in a folder, and return its number and hash once it is on the disk.

    If a process died while it wrote the last line, the rest of that line stays, and the new line holds its hash.

    Raises:
        OSError: the line cannot be written.
    """
    make_private(folder)
    descriptor = os.open(folder / LOG, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        status = os.fstat(descriptor)
        if status.st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
        number, before, rest, is_open = _find_end(descriptor, status.st_size)
        is_cut, start = is_open and bool(rest), b"\n" if is_open else b""
        number += rest.count(b"\n") + is_cut + 1
        document = {"number": number, "before": before, **({"cut-off": _hash(rest)} if is_cut else {}), **to_json(sent)}
        body = json.dumps(document).encode()
        found = _hash(body)
        try:
            _write(descriptor, start + body[:-1] + f', "hash": "{found}"}}\n'.encode())
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, status.st_size)  # half a line would keep a full disk full
            raise
    finally:
        os.close(descriptor)  # which unlocks it
    return number, found


def verify(folder: Path) -> Verified:
    """Read the log in a folder, and compare each line with its own hash and with the line before.

    Returns:
        What was found; no line at all if there is no log.

    Raises:
        DataError: the log cannot be read.
    """
    try:
        with (folder / LOG).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            content = file.read()
    except FileNotFoundError:
        return Verified([], [], [], exists=False)
    except OSError as error:
        raise DataError(f"{folder / LOG} cannot be read: {error.strerror}.") from error
    raw = content.removesuffix(b"\n").split(b"\n") if content else []
    read = [_read(one) for one in raw]
    numbers = {one[0].number for one in read if one is not None}
    lines: list[Line] = []
    problems: list[str] = []
    notes: list[str] = []
    last, last_hash = 0, FIRST  # of the line before; empty: unknown, as that line was changed
    broken: list[bytes] = []  # lines since the last one that can be read
    for text, one in zip(raw, read, strict=True):
        if one is None:
            broken.append(text)
            continue
        line, is_whole = one
        if broken and line.cut_off == _hash(b"\n".join(broken)):
            notes.append(f"{_lines(last + 1, last + len(broken))} cut off: {_CUT_OFF}")
        elif broken:
            problems.append(f"{_lines(last + 1, last + len(broken))} not as written: no reply can be read there.")
            last_hash = ""
        expected = last + len(broken) + 1
        if line.number > expected and sum(expected <= one < line.number for one in numbers) < line.number - expected:
            problems.append(f"{_lines(expected, line.number - 1)} missing.")
        if line.number < expected:
            problems.append(f"Line {line.number} was moved: it stands behind line {last}.")
        if not is_whole:
            problems.append(f"Line {line.number} was changed: its hash is another.")
        elif line.number == expected and last_hash not in ("", line.before):
            problems.append(f"Line {last} was replaced: line {line.number} was written after another one.")
        lines.append(line)
        last, last_hash, broken = line.number, line.hash if is_whole else "", []
    is_cut = len(broken) == 1 and not content.endswith(b"\n") and broken[0][: len(_BEGIN)] == _BEGIN[: len(broken[0])]
    if is_cut:
        notes.append(f"Line {last + 1} is cut off: {_CUT_OFF}")
    elif broken:
        problems.append(f"{_lines(last + 1, last + len(broken))} not as written: no reply can be read there.")
    if not content:
        notes.append("The log is empty: the process that made it died before it wrote a line, or it was emptied.")
    return Verified(lines, problems, notes)


def _find_end(descriptor: int, size: int) -> tuple[int, str, bytes, bool]:
    """Return number and hash of the last whole line, all that follows it, and whether the file's last line is open."""
    if size == 0:
        return 0, FIRST, b"", False
    # not shared: Linux forbids that for a file to which `chattr +a` only lets append
    with mmap.mmap(descriptor, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as content:
        is_open, end = content[size - 1 :] != b"\n", size
        while end > 0:
            stop = end - (content[end - 1 : end] == b"\n")
            start = content.rfind(b"\n", 0, stop) + 1
            found = _read(content[start:stop])
            if found is not None and found[1]:
                return found[0].number, found[0].hash, content[end:], is_open
            end = start
        return 0, FIRST, content[:], is_open


def _read(text: bytes) -> tuple[Line, bool] | None:
    """Return a line, and whether it has its own hash; None if the text is no line of this log."""
    end = _END.fullmatch(text[-_END_BYTES:])
    if end is None:
        return None
    sent, place = from_json(Sent, text), from_json(_Place, text)
    if sent is None or place is None:
        return None
    found = end[1].decode()
    return Line(place.number, found, place.before, place.cut_off, sent), _hash(text[:-_END_BYTES] + b"}") == found


def _write(descriptor: int, text: bytes) -> None:
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.fsync(descriptor)


def _hash(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _lines(first: int, last: int) -> str:
    return f"Line {first} is" if first == last else f"Lines {first} to {last} are"
