"""One file's pixels: every depth and format, and what is no image."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from fl_app.data.decoding import decode, read_header, scale_sixteen_bits
from fl_app.data.dicom import Header
from fl_app.data.unreadable import UnreadableImageError

RAMP = np.array([[0, 128, 129, 32_768], [4_095, 65_406, 65_407, 65_535]], dtype=np.uint16)
EIGHT = [[0, 0, 1, 128], [16, 254, 255, 255]]  # each v / 257, rounded by hand


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_become_8_by_dividing_by_257(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RAMP).save(path)
    assert decode(path, 1).pixels.tolist() == [[EIGHT]]


def test_16_bits_in_32_are_scaled_like_16_bits(tmp_path: Path) -> None:
    Image.fromarray(RAMP.astype(np.int32)).save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as image:
        assert image.mode == "I"
    assert decode(tmp_path / "a.tif", 1).pixels.tolist() == [[EIGHT]]


def test_16_bits_of_the_other_byte_order_are_scaled_alike(tmp_path: Path) -> None:
    Image.frombytes("I;16B", (4, 2), RAMP.astype(">u2").tobytes()).save(tmp_path / "a.tif")
    assert decode(tmp_path / "a.tif", 1).pixels.tolist() == [[EIGHT]]


@settings(deadline=None)
@given(st.integers(0, 255))
def test_8_bits_that_were_widened_to_16_come_back_as_they_were(value: int) -> None:
    assert scale_sixteen_bits(np.array([value * 257])).tolist() == [value]


@pytest.mark.parametrize("values", [[[-1, 5]], [[0, 65_536]]])
def test_32_bit_values_beyond_16_bits_are_refused(tmp_path: Path, values: list[list[int]]) -> None:
    Image.fromarray(np.array(values, dtype=np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableImageError, match=r"its values reach from .* expected 0 to 65535"):
        decode(tmp_path / "a.tif", 1)


def test_fractions_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((2, 2), dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableImageError, match="of kind F; save it with 8 or 16 bits"):
        decode(tmp_path / "a.tif", 1)


def test_a_tiff_of_several_pages_is_refused(tmp_path: Path) -> None:
    page = Image.new("L", (2, 2))
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page])
    with pytest.raises(UnreadableImageError, match="holds several pages"):
        decode(tmp_path / "a.tif", 1)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_tiff_files_are_read_however_they_are_compressed(tmp_path: Path, compression: str) -> None:
    pixels = np.full((16, 16), 77, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.TIFF", format="TIFF", compression=compression)
    assert (decode(tmp_path / "a.TIFF", 1).pixels == np.full((1, 1, 16, 16), 77)).all()


def test_16_bit_grey_gives_three_equal_channels_where_rgb_is_wanted(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", 3).pixels.tolist() == [[EIGHT, EIGHT, EIGHT]]


def test_16_bit_colours_keep_their_upper_8_bits(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixel = b"\0" + struct.pack(">HHH", 0x12FF, 0xAB00, 0xFFFF)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixel)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    assert decode(tmp_path / "a.png", 3).pixels.flatten().tolist() == [0x12, 0xAB, 0xFF]


def pixels_of(kind: str) -> NDArray[np.generic]:
    if kind == "rgb":
        return np.zeros((3, 5, 3), dtype=np.uint8)
    return np.zeros((3, 5), dtype=np.uint16 if kind == "16-bit" else np.uint8)


@pytest.mark.parametrize(("kind", "num_channels"), [("grey", 1), ("rgb", 3), ("16-bit", 1)])
def test_a_header_tells_size_channels_and_depth(tmp_path: Path, kind: str, num_channels: int) -> None:
    Image.fromarray(pixels_of(kind)).save(tmp_path / "a.png")
    assert read_header(tmp_path / "a.png") == Header(5, 3, num_channels, is_sixteen_bit=kind == "16-bit")


@pytest.mark.parametrize("name", ["a.png", "a.dcm", "a", "a.tif"])
def test_a_missing_file_is_unreadable(tmp_path: Path, name: str) -> None:
    for read in (read_header, lambda path: decode(path, 1)):
        with pytest.raises(UnreadableImageError) as caught:
            read(tmp_path / name)
        assert caught.value.public == "an image is broken"


@pytest.mark.parametrize("name", ["a.png", "a.dcm", "a.tif"])
@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=300))
def test_bytes_that_are_no_image_are_unreadable_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    for start in (b"", b"II*\0", bytes(128) + b"DICM"):
        path.write_bytes(start + content)
        with pytest.raises(UnreadableImageError):
            decode(path, 1)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_tiff_in_which_white_is_zero_is_inverted_at_both_depths(tmp_path: Path, depth: int) -> None:
    image = Image.fromarray(RAMP) if depth == 16 else Image.fromarray(np.array(EIGHT, dtype=np.uint8))
    image.save(tmp_path / "a.tif", tiffinfo={262: 0})
    with Image.open(tmp_path / "a.tif") as saved:
        assert isinstance(saved, TiffImagePlugin.TiffImageFile) and saved.tag_v2[262] == 0
        stored = 255 - np.array(EIGHT) if depth == 16 else np.asarray(saved)
    assert decode(tmp_path / "a.tif", 1).pixels.tolist() == [[stored.tolist()]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "I;16", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_a_turned_tiff_shows_the_pixels_of_the_upright_one(
    tmp_path: Path, orientation: int, mode: str, compression: str
) -> None:
    channels = {"L": 0, "I;16": 0, "RGB": 3}.get(mode, 4)
    shape = (48, 64, channels) if channels else (48, 64)
    values = np.random.default_rng(0).integers(0, 256, shape)
    stored = Image.fromarray(values.astype(np.uint16 if mode == "I;16" else np.uint8))
    stored = Image.frombytes(mode, (64, 48), stored.tobytes())
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    upright = stored.transpose(turn[orientation]) if orientation > 1 else stored
    stored.save(tmp_path / "turned.tif", tiffinfo={274: orientation}, compression=compression)
    upright.save(tmp_path / "upright.png" if mode not in ("CMYK",) else tmp_path / "upright.tif")
    found = decode(tmp_path / "turned.tif")
    expected = decode(tmp_path / ("upright.tif" if mode == "CMYK" else "upright.png"))
    assert np.array_equal(found.pixels, expected.pixels)
    assert (found.header.height, found.header.width) == found.pixels.shape[2:]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_header_of_a_turned_photo_tells_its_upright_size(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    for name in ("a.png", "a.jpg"):
        Image.new("L", (6, 4)).save(tmp_path / name, exif=exif)
        header = read_header(tmp_path / name)
        assert (header.height, header.width) == decode(tmp_path / name).pixels.shape[2:]


def test_a_palette_image_gives_own_and_wanted_channels(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).convert("P")
    image.save(tmp_path / "a.png")
    found = decode(tmp_path / "a.png", 1)
    assert (found.pixels.shape, found.own.shape) == ((1, 1, 4, 4), (1, 3, 4, 4))


def test_a_pipe_is_no_image_and_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("a.png", "b.dcm", "c"):
        os.mkfifo(tmp_path / name)
        for read in (read_header, decode):
            with pytest.raises(UnreadableImageError, match="it is no regular file"):
                read(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_picture_of_more_pixels_than_fit_is_refused_before_it_is_decoded(tmp_path: Path, suffix: str) -> None:
    Image.new("1", (10_000, 5_001)).save(tmp_path / f"a.{suffix}")
    with pytest.raises(UnreadableImageError, match="10000 x 5001 pixels, more than 50 million"):
        decode(tmp_path / f"a.{suffix}")


def test_a_picture_that_says_it_has_billions_of_pixels_is_refused_in_the_same_words(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.tif")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    for tag in (256, 257):  # width, height; type 4, count 1
        at = content.index(struct.pack("<H", tag), 8)
        content[at + 2 : at + 12] = struct.pack("<HII", 4, 1, 60_000)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UnreadableImageError, match="its header says more than 50 million pixels"):
        decode(tmp_path / "a.tif")
