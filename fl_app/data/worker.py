"""A process that decodes files for `fl_app.data.pool`, within limits: what a decoder does to it harms nobody else.

It reads a line of JSON for each file from its standard input, and answers with a line of JSON and the pixels.
An npz has several answers: the empty request, `{}`, asks for the next.
"""

import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fl_app.data.decoding import Pixels, decode, read_header
from fl_app.data.npz_arrays import describe, read_pieces
from fl_app.errors import DataError

_Answer = tuple[dict[str, Any], list[Pixels]]

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
    answers: Iterator[_Answer] = iter(())
    for line in requests:
        request = json.loads(line)
        if "path" in request:
            path = Path(request["path"])
            used = resource.getrusage(resource.RUSAGE_SELF)
            _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + seconds_for(path)) + 1)
            answers = _of_npz(path, request) if "part" in request else _of_image(path, request)
        try:
            reply, arrays = next(answers)
        except DataError as error:
            reply, arrays = {"error": type(error).__name__, "text": str(error), "public": error.public}, []
        _send(replies, reply, arrays)


def _of_image(path: Path, request: dict[str, Any]) -> Iterator[_Answer]:
    if request["only_header"]:
        yield {"header": asdict(read_header(path))}, []
        return
    found = decode(path, request["num_channels"])
    arrays = [found.pixels]
    if request["wants_own"] and found.own is not found.pixels:
        arrays.append(found.own)
    shapes = [array.shape for array in arrays]
    yield {"header": asdict(found.header), "shapes": shapes, "is_window_ignored": found.is_window_ignored}, arrays


def _of_npz(path: Path, request: dict[str, Any]) -> Iterator[_Answer]:
    found = describe(path, request["part"])
    labels = found.labels.view(np.uint8).reshape(len(found.labels), 1, 1, 8)
    told = {"num_channels": found.num_channels, "is_sixteen_bit": found.is_sixteen_bit}
    yield told | {"shapes": [labels.shape]}, [labels]
    for piece in read_pieces(path, request["part"]):
        yield {"shapes": [piece.shape]}, [piece]
    yield {"is_end": True}, []


def _send(replies: BinaryIO, reply: dict[str, Any], arrays: list[Pixels] | None = None) -> None:
    replies.write(json.dumps(reply).encode() + b"\n")
    for array in arrays or []:
        if array.flags.c_contiguous:
            replies.write(array.data)
            continue
        for frame in array:
            for channel in frame:
                replies.write(channel.tobytes())
    replies.flush()


def _limit(what: int, value: int) -> None:
    with contextlib.suppress(ValueError, OSError):  # a lower limit is in force already, or the system knows none
        resource.setrlimit(what, (value, resource.getrlimit(what)[1]))


if __name__ == "__main__":
    main()
