"""Is a PNG whole? Pillow shows a PNG whose data end early with the rest in black, and does not compare checksums."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fl_app.data.unreadable import Fault

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # a pixel, by colour type
# first column, first row, columns and rows from one pixel to the next, for each pass of an interlaced image
_WHOLE = ((0, 0, 1, 1),)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PIECE = 2**20


def check_png(path: Path) -> None:
    """Check that a PNG holds as many bytes of pixels as its header says, and that they are those that were written.

    Raises:
        Fault: it is cut off, or a checksum does not fit.
    """
    with path.open("rb") as file:
        if file.read(8) != _SIGNATURE:
            raise Fault("it is no PNG")
        expected, found = 0, 0
        inflate = zlib.decompressobj()
        for kind, content in _chunks(file):
            if kind == b"IHDR":
                expected = _num_bytes(content)
            elif kind == b"IDAT":
                found += _inflated(inflate, content, expected - found)
        if found < expected:
            raise Fault(f"it is cut off: {found} of {expected} bytes of its pixels are there")


def _inflated(inflate: "zlib._Decompress", content: bytes, wanted: int) -> int:
    """Return how many bytes a piece of the compressed data holds; not much more than the wanted ones are looked at."""
    found = 0
    try:
        while content and not inflate.eof and found <= wanted:
            found += len(inflate.decompress(content, _PIECE))
            content = inflate.unconsumed_tail
    except zlib.error:
        raise Fault("its pixel data are damaged") from None
    return found


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks that hold the header and the pixels, up to the end of the image."""
    while True:
        head = file.read(8)
        length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"IEND")
        if kind == b"IEND":
            return
        if kind not in (b"IHDR", b"IDAT"):
            file.seek(length + 4, 1)
            continue
        content = file.read(length)
        if file.read(4) != struct.pack(">I", zlib.crc32(kind + content)):
            raise Fault("its pixel data are cut off or damaged: a checksum does not fit")
        yield kind, content


def _num_bytes(header: bytes) -> int:
    """Return the length of the pixels before compression: each row has a byte for its filter."""
    width, height, depth, colours, _, _, interlaced = struct.unpack(">IIBBBBB", header[:13])
    bits = depth * _SAMPLES.get(colours, 1)
    total = 0
    for column, row, step_x, step_y in _ADAM7 if interlaced else _WHOLE:
        columns, rows = -(-(width - column) // step_x), -(-(height - row) // step_y)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total
