"""A process that decodes files for `fl_app.data.pool`, within limits: what a decoder does to it harms nobody else.

It reads a line of JSON for each file from its standard input, and answers with a line of JSON and the pixels.
"""

import contextlib
import json
import os
import resource
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from fl_app.data.decoding import Pixels, decode, read_header
from fl_app.errors import DataError

MOST_MEMORY = 2**30  # bytes
_SECONDS = 10  # of computing for any file,
_BYTES_A_SECOND = 1_000_000  # and one more for so many bytes of it: a bomb is a small file


def seconds_for(path: Path) -> float:
    """Return how many seconds of computing a file is given."""
    try:
        return _SECONDS + path.stat().st_size / _BYTES_A_SECOND
    except OSError:
        return _SECONDS


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which then closes the input
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_DATA, MOST_MEMORY)
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a library that prints must not spoil a reply
    _send(replies, {"ready": True})
    for line in requests:
        request = json.loads(line)
        path = Path(request["path"])
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + seconds_for(path)) + 1)
        try:
            reply, arrays = _answer(path, request)
        except DataError as error:
            reply, arrays = {"error": type(error).__name__, "text": str(error), "public": error.public}, []
        _send(replies, reply, arrays)


def _answer(path: Path, request: dict[str, Any]) -> tuple[dict[str, Any], list[Pixels]]:
    if request["only_header"]:
        return {"header": asdict(read_header(path))}, []
    found = decode(path, request["num_channels"])
    arrays = [found.pixels]
    if request["wants_own"] and found.own is not found.pixels:
        arrays.append(found.own)
    shapes = [array.shape for array in arrays]
    return {"header": asdict(found.header), "shapes": shapes, "is_window_ignored": found.is_window_ignored}, arrays


def _send(replies: BinaryIO, reply: dict[str, Any], arrays: list[Pixels] | None = None) -> None:
    replies.write(json.dumps(reply).encode() + b"\n")
    for array in arrays or []:
        for frame in array:
            for channel in frame:
                replies.write(channel.tobytes())
    replies.flush()


def _limit(what: int, value: int) -> None:
    with contextlib.suppress(ValueError, OSError):  # a lower limit is in force already, or the system knows none
        resource.setrlimit(what, (value, resource.getrlimit(what)[1]))


if __name__ == "__main__":
    main()
