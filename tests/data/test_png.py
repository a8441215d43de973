"""A PNG that is not whole is no image: Pillow would show the rest in black."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fl_app.data.decoding import decode
from fl_app.data.unreadable import UnreadableImageError


def png(rows: int, stored: bytes, interlaced: int = 0) -> bytes:
    """Return a grey PNG of four columns that says it has so many rows."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 4, rows, 8, 0, 0, 0, interlaced)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(stored)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_a_png_that_says_more_rows_than_it_holds_is_unreadable(tmp_path: Path) -> None:
    row = b"\0\1\2\3\4"
    (tmp_path / "a.png").write_bytes(png(16, 16 * row))
    assert decode(tmp_path / "a.png").pixels.shape == (1, 1, 16, 4)
    (tmp_path / "a.png").write_bytes(png(16, 2 * row))
    with pytest.raises(UnreadableImageError, match="it is cut off: 10 of 80 bytes of its pixels are there"):
        decode(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (8, 8), (13, 2)])
def test_whole_files_of_every_kind_are_read(tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    Image.new(mode, size).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png").pixels.shape[2:] == (size[1], size[0])


@pytest.mark.parametrize("side", range(1, 10))
def test_interlaced_files_are_as_long_as_their_passes(tmp_path: Path, side: int) -> None:
    # rows and columns of Adam7's passes, by the figure in the PNG specification
    starts, steps = (
        ((0, 0), (0, 4), (4, 0), (0, 2), (2, 0), (0, 1), (1, 0)),
        ((8, 8), (8, 8), (8, 4), (4, 4), (4, 2), (2, 2), (2, 1)),
    )
    length = 0
    for (row, column), (down, right) in zip(starts, steps, strict=True):
        rows, columns = len(range(row, side, down)), len(range(column, 4, right))
        length += rows * (columns + 1) if columns else 0
    (tmp_path / "a.png").write_bytes(png(side, bytes(length), interlaced=1))
    assert decode(tmp_path / "a.png").pixels.shape == (1, 1, side, 4)
    (tmp_path / "a.png").write_bytes(png(side, bytes(length - 1), interlaced=1))
    with pytest.raises(UnreadableImageError, match="cut off"):
        decode(tmp_path / "a.png")


@settings(max_examples=150, deadline=None)
@given(place=st.integers(8, 10_000), bit=st.integers(0, 7))
def test_one_flipped_bit_never_changes_a_pixel(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    content[8 + (place - 8) % (len(content) - 8)] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "flipped.png"
    path.write_bytes(content)
    try:
        found = decode(path)
    except UnreadableImageError:
        return
    assert np.array_equal(found.pixels[0, 0], pixels)
