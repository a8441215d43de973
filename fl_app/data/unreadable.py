"""Files that cannot be read as images: reasons, limits of size and number, and the check that a PNG is complete."""

import logging
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from fl_app.errors import DataError

log = logging.getLogger(__name__)

MOST_PIXELS = 50_000_000  # of one frame; decoding takes up to 16 bytes a pixel
MOST_VALUES = 2**27  # of all frames and channels of one file

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # a pixel, by colour type
# for each pass of an interlaced PNG: first column, first row, columns and rows from one pixel to the next
_WHOLE = ((0, 0, 1, 1),)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PIECE = 2**20  # bytes


class UnreadableImageError(DataError):
    """One file is missing, broken, or of an unsupported kind; other files may be fine."""


class NoPixelsError(UnreadableImageError):
    """A DICOM file holds no image: it is a report, a plan or the like."""


class Fault(Exception):
    """The reason why a file cannot be read: a phrase without the file's name and without values of a patient."""


class NoPixels(Fault):
    """The reason is that the file holds no image and never did."""


def unreadable(path: Path, fault: Fault) -> UnreadableImageError:
    """Turn a reason into the error that names the file."""
    if isinstance(fault, NoPixels):
        return NoPixelsError(f"{path} {fault}.", public="a DICOM file holds no image")
    return UnreadableImageError(
        f"{path} cannot be read as an image: {fault}. Replace or remove it.", public="an image is broken"
    )


def check_size(width: int, height: int, num_values: int) -> None:
    """Check the size that a file's header states, before any pixel is decoded.

    Args:
        width: of a frame, in pixels.
        height: of a frame, in pixels.
        num_values: pixels times channels times frames.

    Raises:
        Fault: there are no pixels, or more than this program decodes.
    """
    if min(width, height, num_values) < 1:
        raise Fault(f"its header says {width} x {height} pixels")
    if width * height > MOST_PIXELS:
        raise Fault(f"its header says {width} x {height} pixels, more than {MOST_PIXELS / 1e6:g} million")
    if num_values > MOST_VALUES:
        raise Fault(
            f"its frames hold {num_values / 1e6:,.0f} million values, more than {MOST_VALUES / 1e6:.0f} million"
        )


def check_png(path: Path) -> None:
    """Check that a PNG holds as many bytes of pixels as its header states, and that its checksums match.

    Pillow shows missing pixels in black and does not compare checksums.

    Raises:
        Fault: it is cut off, or a checksum does not match.
    """
    with path.open("rb") as file:
        if file.read(8) != _PNG_SIGNATURE:
            raise Fault("it is no PNG")
        expected, found = 0, 0
        inflate = zlib.decompressobj()
        for kind, content in _png_chunks(file):
            if kind == b"IHDR":
                width, height, depth, colours, _, _, interlaced = struct.unpack(">IIBBBBB", content[:13])
                bits = depth * _SAMPLES.get(colours, 1)
                passes = (
                    (-(-(width - column) // step_x), -(-(height - row) // step_y))
                    for column, row, step_x, step_y in (_ADAM7 if interlaced else _WHOLE)
                )
                # each row begins with one byte for its filter
                expected = sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in passes if columns > 0 < rows)
                continue
            try:
                while content and not inflate.eof and found <= expected:
                    found += len(inflate.decompress(content, _PIECE))
                    content = inflate.unconsumed_tail
            except zlib.error:
                raise Fault("its pixel data are damaged") from None
        if found < expected:
            raise Fault(f"it is cut off: {found} of {expected} bytes of its pixels are there")


def _png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
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


def check_problems(
    problems: Sequence[UnreadableImageError], num_files: int, max_share: float, at_least: str = ""
) -> None:
    """Raise DataError if too many files cannot be read; else warn of those that cannot."""
    if not problems:
        return
    are = "is" if len(problems) == 1 else "are"
    count = f"{at_least}{len(problems)} of {num_files} image files {are} missing or broken"
    if len(problems) / num_files > max_share:
        raise DataError(
            f"{count}; the largest allowed share is {max_share:g} (node option 'max-unreadable-share'; 0 in a "
            f"simulation). The first one: {problems[0]}",
            public=f"{count}, more than this node allows",
        )
    log.warning("%s and left out. The first one: %s", count, problems[0])
