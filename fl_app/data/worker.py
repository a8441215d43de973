"""A process that decodes files for `fl_app.data.decoders`, with limited memory and time: a decoder can crash only this.

It reads a line of JSON for each file from its standard input, and answers with a line of JSON and the pixels. An npz
has several answers: an empty request, `{}`, asks for the next.
"""

import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fl_app.data.decoding import Pixels, decode, read_header
from fl_app.data.dicom import Header
from fl_app.data.listing import Part
from fl_app.data.npz_arrays import describe, read_pieces
from fl_app.errors import DataError

MOST_MEMORY = 2**30  # bytes
_SECONDS = 10  # of computing for any file,
_BYTES_A_SECOND = 1_000_000  # and one more for so many bytes of it: a bomb is a small file


@dataclass(frozen=True)
class Request:
    """What to read of a file.

    Attributes:
        path: the file.
        num_channels: 1 or 3, of the pixels; 0: as in the file.
        wants_own: also return the pixels in the file's own channels.
        only_header: return no pixels.
        part: of an npz; None: the file is an image.
    """

    path: Path
    num_channels: int = 0
    wants_own: bool = False
    only_header: bool = False
    part: Part | None = None


@dataclass(frozen=True)
class Reply:
    """What was read.

    Attributes:
        shapes: of the arrays that follow, uint8.
        header: of an image.
        is_window_ignored: see `decoding.Picture`.
        num_channels: of the images of an npz; 0 in all replies but the first.
        is_sixteen_bit: the images of the npz have 16 bits.
        is_end: there is no further part of the npz.
        error: name of the error's class; empty: there was none.
        text: of the error.
        public: of the error.
    """

    shapes: tuple[tuple[int, int, int, int], ...] = ()
    header: Header | None = None
    is_window_ignored: bool = False
    num_channels: int = 0
    is_sixteen_bit: bool = False
    is_end: bool = False
    error: str = ""
    text: str = ""
    public: str = ""


def seconds_for(path: Path) -> float:
    """Return the seconds of computing that a file may take."""
    try:
        return _SECONDS + path.stat().st_size / _BYTES_A_SECOND
    except OSError:
        return _SECONDS


def main() -> None:
    """Answer requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which then closes the input
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_DATA, MOST_MEMORY)
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a library that prints must not spoil a reply
    _send(replies, Reply(), [])
    answers: Iterator[tuple[Reply, list[Pixels]]] = iter(())
    for line in requests:
        if told := json.loads(line):
            request = Request(**told | {"path": Path(told["path"])})
            used = resource.getrusage(resource.RUSAGE_SELF)
            _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + seconds_for(request.path)) + 1)
            answers = _answers(request)
        try:
            reply, arrays = next(answers)
        except DataError as error:
            reply, arrays = Reply(error=type(error).__name__, text=str(error), public=error.public), []
        _send(replies, reply, arrays)


def _answers(request: Request) -> Iterator[tuple[Reply, list[Pixels]]]:
    if request.part is not None:
        found = describe(request.path, request.part)
        labels = found.labels.view(np.uint8).reshape(len(found.labels), 1, 1, 8)
        yield Reply(num_channels=found.num_channels, is_sixteen_bit=found.is_sixteen_bit), [labels]
        for piece in read_pieces(request.path, request.part):
            yield Reply(), [piece]
        yield Reply(is_end=True), []
    elif request.only_header:
        yield Reply(header=read_header(request.path)), []
    else:
        picture = decode(request.path, request.num_channels)
        arrays = [picture.pixels]
        if request.wants_own and picture.own is not picture.pixels:
            arrays.append(picture.own)
        yield Reply(header=picture.header, is_window_ignored=picture.is_window_ignored), arrays


def _send(replies: BinaryIO, reply: Reply, arrays: list[Pixels]) -> None:
    told = asdict(reply) | {"shapes": [array.shape for array in arrays]}
    replies.write(json.dumps(told).encode() + b"\n")
    for array in arrays:
        if array.flags.c_contiguous:
            replies.write(array.data)
            continue
        for frame in array:
            for channel in frame:
                replies.write(channel.tobytes())
    replies.flush()


def _limit(what: int, value: int) -> None:
    with contextlib.suppress(ValueError, OSError):  # a lower limit is in force, or the system does not know this one
        resource.setrlimit(what, (value, resource.getrlimit(what)[1]))


if __name__ == "__main__":
    main()
