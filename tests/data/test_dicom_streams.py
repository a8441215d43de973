"""Compressed DICOM whose header says another size than the stream: never scrambled."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from fl_app.data.decoding import decode
from fl_app.data.unreadable import UnreadableImageError
from tests.data.dicoms import write_dicom

OF_PYDICOM = (
    "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_gdcm.dcm", "JPGExtended.dcm",
    "JPEG2000.dcm", "SC_rgb_jpeg_dcmtk.dcm", "GDCMJ2K_TextGBR.dcm", "JPEGLSNearLossless_16.dcm", "MR_small_RLE.dcm",
)  # fmt: skip


def resized(path: Path, to: Path, rows: int, columns: int) -> Path:
    """Write a copy of a file whose header says another size."""
    file = dcmread(path)
    file.Rows, file.Columns = rows, columns
    file.save_as(to)
    return to


def of_pydicom(name: str) -> Path:
    found = get_testdata_file(name, download=False)
    assert isinstance(found, str)
    return Path(found)


@pytest.mark.parametrize("name", OF_PYDICOM)
def test_a_header_that_says_another_size_than_the_stream_is_no_picture(tmp_path: Path, name: str) -> None:
    path = of_pydicom(name)
    found = decode(path)
    rows, columns = found.header.height, found.header.width
    sizes = [(rows // 2, columns), (rows // 2, columns // 2), (rows, columns - 1), (rows - 1, columns)]
    if "RLE" not in name:  # whose stream is one long row
        sizes += [(rows // 2, columns * 2), (rows * 2, columns // 2)]
    for number, size in enumerate(sizes):
        with pytest.raises(UnreadableImageError, match=r"its compressed pixel data (are|hold) .*and its header says"):
            decode(resized(path, tmp_path / f"{number}.dcm", *size))


def test_a_stream_in_colour_is_not_grey(tmp_path: Path) -> None:
    file = dcmread(of_pydicom("SC_rgb_jpeg_gdcm.dcm"))
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    del file.PlanarConfiguration
    file.save_as(tmp_path / "a.dcm")
    with pytest.raises(UnreadableImageError, match="are 3 values a pixel, and its header says 1"):
        decode(tmp_path / "a.dcm")


@pytest.mark.parametrize(("kind", "syntax"), [("JPEG", JPEGBaseline8Bit), ("JPEG2000", JPEG2000Lossless)])
def test_each_frame_is_compared(tmp_path: Path, kind: str, syntax: UID) -> None:
    def compressed(width: int, height: int) -> bytes:
        buffer = BytesIO()
        Image.linear_gradient("L").resize((width, height)).save(buffer, kind)
        return buffer.getvalue()

    path = write_dicom(tmp_path / "a.dcm", np.zeros((2, 16, 24), dtype=np.uint8))
    file = dcmread(path)
    file.file_meta.TransferSyntaxUID = syntax
    for second, is_good in ((compressed(24, 16), True), (compressed(16, 24), False)):
        file.PixelData = encapsulate([compressed(24, 16), second])
        file.save_as(path)
        if is_good:
            assert decode(path).pixels.shape == (2, 1, 16, 24)
            continue
        with pytest.raises(UnreadableImageError, match=r"are 16 x 24 pixels, and its header says 24 x 16"):
            decode(path)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (130, 3), (2, 300)])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_run_lengths_of_every_size_are_read(tmp_path: Path, shape: tuple[int, int], depth: type) -> None:
    pixels: NDArray[Any] = np.random.default_rng(0).integers(0, 3, shape).astype(depth)  # short runs and long ones
    plain = write_dicom(tmp_path / "a.dcm", pixels)
    assert np.array_equal(decode(write_dicom(tmp_path / "b.dcm", pixels, RLELossless)).pixels, decode(plain).pixels)


@pytest.mark.parametrize("cut", [10, 64])
@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"])
def test_a_stream_without_a_size_is_no_picture(tmp_path: Path, name: str, cut: int) -> None:
    file = dcmread(of_pydicom(name))
    file.PixelData = encapsulate([bytes(cut)])
    file.save_as(tmp_path / "a.dcm")
    with pytest.raises(UnreadableImageError, match="its compressed pixel data"):
        decode(tmp_path / "a.dcm")
