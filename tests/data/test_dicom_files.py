"""DICOM files that systems write in their own way: frames, meta headers, reports, and decoders that panic."""

import random
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, RLELossless

from fl_app.data import dicom
from fl_app.data.decoding import decode, read_header
from fl_app.data.unreadable import NoPixelsError, UnreadableImageError
from tests.data.dicoms import CANARY, write_dicom

FRAMES = np.arange(2 * 4 * 6, dtype=np.uint8).reshape(2, 4, 6)


def of_pydicom(name: str) -> Path:
    found = get_testdata_file(name, download=False)
    assert isinstance(found, str)
    return Path(found)


def reason(path: Path) -> str:
    """Return why a file is unreadable, having checked that nothing of a patient is told."""
    with pytest.raises(UnreadableImageError) as caught:
        decode(path)
    assert CANARY not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("number", [1, None])
@pytest.mark.parametrize("colours", [1, 3])
def test_there_are_as_many_frames_as_are_stored(tmp_path: Path, number: int | None, colours: int) -> None:
    pixels = np.stack([FRAMES] * 3, axis=-1) if colours == 3 else FRAMES
    path = write_dicom(tmp_path / "a.dcm", pixels, NumberOfFrames=2)
    file = dcmread(path)
    if number is None:
        del file.NumberOfFrames
    else:
        file.NumberOfFrames = number
    file.save_as(path)
    found = decode(path)
    assert found.pixels.shape == (2, colours, 4, 6) and found.header.num_frames == 2


@pytest.mark.parametrize("has_table", [True, False])
def test_compressed_frames_are_counted_where_no_number_is_given(tmp_path: Path, has_table: bool) -> None:
    path = write_dicom(tmp_path / "a.dcm", FRAMES, RLELossless)
    whole = decode(path).pixels
    file = dcmread(path)
    del file.NumberOfFrames
    if not has_table:
        file.PixelData = encapsulate(list(generate_frames(file.PixelData, number_of_frames=2)), has_bot=False)
    file.save_as(path)
    assert np.array_equal(decode(path).pixels, whole)


def test_colour_frames_of_a_real_scanner_are_counted_where_no_number_is_given(tmp_path: Path) -> None:
    file = dcmread(of_pydicom("examples_ybr_color.dcm"))
    frames = int(file.NumberOfFrames)
    whole = decode(of_pydicom("examples_ybr_color.dcm")).pixels
    del file.NumberOfFrames
    file.save_as(tmp_path / "a.dcm")
    found = decode(tmp_path / "a.dcm").pixels
    assert len(found) == frames and np.array_equal(found, whole)


def headless(path: Path, content: Any, implicit: bool) -> Path:
    """Write a data set without preamble and meta header."""
    del content.file_meta, content.preamble
    buffer = BytesIO()
    content.save_as(buffer, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    path.write_bytes(buffer.getvalue())
    return path


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("name", ["b.dcm", "IM000001"])
def test_a_file_without_a_meta_header_is_read(tmp_path: Path, implicit: bool, name: str) -> None:
    path = write_dicom(tmp_path / "a.dcm", FRAMES[0])
    found = decode(headless(tmp_path / name, dcmread(path), implicit)).pixels
    assert np.array_equal(found, decode(path).pixels)


def test_a_file_without_a_transfer_syntax_is_read(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", FRAMES[0])
    whole = decode(path).pixels
    file = dcmread(path)
    del file.file_meta.TransferSyntaxUID
    file.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=False)
    assert np.array_equal(decode(path).pixels, whole)


@pytest.mark.parametrize("name", ["test-SR.dcm", "reportsi.dcm", "rtplan.dcm", "rtstruct.dcm", "waveform_ecg.dcm"])
def test_a_report_or_a_plan_holds_no_image_and_says_what_it_is(name: str) -> None:
    with pytest.raises(NoPixelsError, match=r"holds no image: it is of kind '.*Storage'"):
        decode(of_pydicom(name))
    with pytest.raises(NoPixelsError):
        read_header(of_pydicom(name))


@pytest.mark.parametrize("kind", ["1.2.840.10008.5.1.4.1.1.7", "1.2.3.4", ""])
def test_an_image_that_has_lost_its_header_is_damaged_and_not_passed_over(tmp_path: Path, kind: str) -> None:
    path = write_dicom(tmp_path / "a.dcm", FRAMES[0], Rows=None, Columns=None, SOPClassUID=kind)
    file = dcmread(path)
    file.file_meta.MediaStorageSOPClassUID = UID(kind or "1.2.3")
    file.save_as(path, enforce_file_format=False)
    with pytest.raises(UnreadableImageError) as caught:
        decode(path)
    assert not isinstance(caught.value, NoPixelsError)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"Rows": None}, "its header lacks Rows"),
        ({"PhotometricInterpretation": None}, "its header lacks PhotometricInterpretation"),
        ({"PixelData": None}, "its pixel data are missing"),
        ({"PixelData": bytes(6)}, "its pixel data are shorter than its header says"),
        ({"SamplesPerPixel": 3}, "3 values a pixel, which contradicts"),
        ({"Rows": 65_535, "Columns": 65_535}, "65535 x 65535 pixels, more than 50 million"),
        ({"NumberOfFrames": 2**31 - 1}, "its frames hold .* million values, more than 134 million"),
        ({"Columns": 0}, "its header says 0 x 4 pixels"),
    ],
)
def test_the_reason_is_told_in_words(tmp_path: Path, tags: dict[str, Any], words: str) -> None:
    path = write_dicom(tmp_path / "a.dcm", FRAMES[0], **tags)
    assert re.search(words, reason(path)), reason(path)


def test_a_compression_that_nothing_here_can_decode_is_named(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", FRAMES[0], RLELossless)
    content = path.read_bytes()
    syntax = RLELossless.encode()
    assert content.count(syntax) == 1
    at = content.index(syntax) - 2
    new = b"1.2.840.10008.1.2.4.100"
    new += b"\0" * (len(new) % 2)
    old_length = int.from_bytes(content[at : at + 2], "little")
    path.write_bytes(content[:at] + len(new).to_bytes(2, "little") + new + content[at + 2 + old_length :])
    assert "its compression, MPEG2 Main Profile" in reason(path) and "is not supported" in reason(path)


@pytest.mark.parametrize("name", ["a.dcm", "b"])
def test_a_file_that_is_no_dicom_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"<html>not found</html>" * 20)
    assert " is no " in reason(tmp_path / name)


class PanicException(BaseException):
    """What PyO3 raises where Rust panics: no Exception."""


PanicException.__module__ = "pyo3_runtime"


def test_a_panic_of_a_rust_decoder_is_one_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def panic(path: Path) -> None:
        raise PanicException("index out of bounds")

    path = write_dicom(tmp_path / "a.dcm", FRAMES[0])
    monkeypatch.setattr(dicom, "read_frames", panic)
    assert "PanicException" in reason(path)


def test_a_wish_to_stop_is_no_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(path: Path) -> None:
        raise KeyboardInterrupt

    path = write_dicom(tmp_path / "a.dcm", FRAMES[0])
    monkeypatch.setattr(dicom, "read_frames", stop)
    with pytest.raises(KeyboardInterrupt):
        decode(path)


def test_real_rle_files_with_damage_let_nothing_escape(tmp_path: Path) -> None:
    # some of these copies make pylibjpeg-rle panic
    content = of_pydicom("MR_small_RLE.dcm").read_bytes()
    draw = random.Random(0)
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(draw.randint(1, 8)):
            damaged[draw.randrange(132, len(damaged))] = draw.randrange(256)
        (tmp_path / "a.dcm").write_bytes(damaged)
        try:
            assert decode(tmp_path / "a.dcm").pixels.dtype == np.uint8
        except UnreadableImageError:
            continue
