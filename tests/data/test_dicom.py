"""DICOM as it is seen on a screen: rescale, window, inversion, frames, compression."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_windowing
from pydicom.sequence import Sequence

from fl_app.data.decoding import decode, read_header
from fl_app.data.dicom import Header
from fl_app.data.dicom_values import window
from fl_app.data.fitting import read_images
from fl_app.data.images import DatasetInfo
from fl_app.data.unreadable import UnreadableImageError
from fl_app.errors import DataError
from tests.data.dicoms import CANARY, dicom_file, write_dicom

CT = np.array([[0, 24, 1024], [1064, 1104, 4095]], dtype=np.int16)


def shown(tmp_path: Path, pixels: Any, **tags: Any) -> Any:
    return decode(write_dicom(tmp_path / "a.dcm", pixels, **tags), 1).pixels[:, 0].tolist()


def test_without_a_window_a_frame_reaches_from_its_smallest_to_its_largest_value(tmp_path: Path) -> None:
    assert shown(tmp_path, np.array([[100, 200, 350]], dtype=np.uint16)) == [[[0, 102, 255]]]


def test_a_frame_of_one_value_is_black(tmp_path: Path) -> None:
    assert shown(tmp_path, np.full((2, 2), 7, dtype=np.uint8)) == [[[0, 0], [0, 0]]]


def test_a_window_applies_to_rescaled_values(tmp_path: Path) -> None:
    # Hounsfield -1024, -1000, 0, 40, 80, 3071; the window from -0.5 to 80.5 has 81 steps: (v - 39.5) / 80 + 0.5
    found = shown(tmp_path, CT, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=81)
    assert found == [[[0, 0, 2], [129, 255, 255]]]


def test_the_first_of_several_windows_is_taken(tmp_path: Path) -> None:
    one = shown(tmp_path, CT, WindowCenter=1064, WindowWidth=80)
    assert shown(tmp_path, CT, WindowCenter=[1064, 5], WindowWidth=[80, 9]) == one


def test_monochrome1_is_the_inverse_of_monochrome2(tmp_path: Path) -> None:
    write_dicom(tmp_path / "b.dcm", CT, PhotometricInterpretation="MONOCHROME1")
    plain, inverse = decode(write_dicom(tmp_path / "a.dcm", CT), 1), decode(tmp_path / "b.dcm", 1)
    assert np.array_equal(255 - plain.pixels, inverse.pixels)


@settings(deadline=None)
@given(
    center=st.floats(-2000, 2000),
    width=st.floats(1, 4000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)
def test_windows_are_those_of_pydicom(center: float, width: float, function: str) -> None:
    values = np.arange(-2000, 2000, 37, dtype=np.int16)[None]
    file = dicom_file(values, WindowCenter=center, WindowWidth=width, VOILUTFunction=function)
    if float(file.WindowWidth) < 1:
        return
    with np.errstate(over="ignore"):
        theirs = (apply_windowing(values, file) + 32_768) / 65_535
    ours = window(values.astype(np.float64), float(file.WindowCenter), float(file.WindowWidth), function)
    assert np.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(
    ("width", "function"), [(0.5, "LINEAR"), (0.0, "SIGMOID"), (-3.0, "LINEAR_EXACT"), (9.0, "ODD")]
)
def test_a_window_that_dicom_does_not_know_is_none_and_counted(tmp_path: Path, width: float, function: str) -> None:
    path = write_dicom(tmp_path / "a.dcm", CT, WindowCenter=40, WindowWidth=width, VOILUTFunction=function)
    found = decode(path, 1)
    plain = decode(write_dicom(tmp_path / "b.dcm", CT), 1)
    assert found.is_window_ignored and not plain.is_window_ignored
    assert np.array_equal(found.pixels, plain.pixels)
    with pytest.raises(ValueError, match="window"):
        window(np.zeros(1), 40, width, function)


def test_a_window_of_width_1_is_a_threshold(tmp_path: Path) -> None:
    found = shown(tmp_path, CT, WindowCenter=1064.5, WindowWidth=1)
    assert found == [[[0, 0, 0], [0, 255, 255]]]


def test_a_lut_goes_before_a_window(tmp_path: Path) -> None:
    lut = Dataset()
    lut.add_new("LUTDescriptor", "US", [4, 0, 16])
    lut.add_new("LUTData", "US", [257 * value for value in (255, 200, 100, 0)])
    ramp = np.array([[0, 1, 2, 3]], dtype=np.uint8)
    found = shown(tmp_path, ramp, VOILUTSequence=Sequence([lut]), WindowCenter=2, WindowWidth=4)
    assert found == [[[255, 200, 100, 0]]]


def test_each_frame_is_an_image(tmp_path: Path) -> None:
    frames = np.arange(24, dtype=np.uint8).reshape(3, 2, 4)
    path = write_dicom(tmp_path / "a.dcm", frames, WindowCenter=128, WindowWidth=256)
    assert decode(path, 1).pixels[:, 0].tolist() == frames.tolist()
    assert read_header(path) == Header(4, 2, 1, 3, CANARY)


def test_enhanced_files_say_per_frame_how_it_is_shown(tmp_path: Path) -> None:
    def group(center: float) -> Dataset:
        item, voi = Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = center, 101
        item.FrameVOILUTSequence = Sequence([voi])
        return item

    shared, rescale = Dataset(), Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = 2, -100
    shared.PixelValueTransformationSequence = Sequence([rescale])
    frames = np.full((2, 1, 1), 100, dtype=np.int16)  # 100 after rescaling
    found = shown(
        tmp_path,
        frames,
        PerFrameFunctionalGroupsSequence=Sequence([group(100.5), group(200.5)]),
        SharedFunctionalGroupsSequence=Sequence([shared]),
    )
    assert found == [[[128]], [[0]]]


def test_colour_files_become_rgb(tmp_path: Path) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    path = write_dicom(tmp_path / "a.dcm", pixels)
    assert decode(path, 3).pixels[0].transpose(1, 2, 0).tolist() == pixels.tolist()
    assert read_header(path).num_channels == 3


@pytest.mark.parametrize("kind", ["HSV", "CMYK", "ARGB", "YBR_PARTIAL_420", "YBR_PARTIAL_422", "YBR_ICT", "YBR_RCT"])
def test_colours_of_another_kind_are_not_shown_as_rgb(tmp_path: Path, kind: str) -> None:
    pixels = np.zeros((2, 2, 3), dtype=np.uint8)
    path = write_dicom(tmp_path / "a.dcm", pixels, PhotometricInterpretation=kind)
    for read in (decode, read_header):
        with pytest.raises(UnreadableImageError, match=f"gives its colours as {kind}, which cannot be shown"):
            read(path)


@pytest.mark.parametrize(("kind", "colours"), [("rgb", 3), ("ybr_full", 3), ("monochrome1", 1)])
def test_a_kind_of_colours_may_be_in_lower_case(tmp_path: Path, kind: str, colours: int) -> None:
    pixels = np.arange(4 * colours, dtype=np.uint8).reshape((2, 2, 3) if colours == 3 else (2, 2))
    one = write_dicom(tmp_path / "a.dcm", pixels, PhotometricInterpretation=kind.upper())
    path = tmp_path / "b.dcm"
    path.write_bytes(one.read_bytes().replace(kind.upper().encode(), kind.encode()))
    assert np.array_equal(decode(path).pixels, decode(one).pixels)
    assert read_header(path).num_channels == colours


def test_what_stands_in_the_place_of_a_kind_of_colours_is_not_told(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros((2, 2), dtype=np.uint8), PhotometricInterpretation="DOE JOHN")
    with pytest.raises(UnreadableImageError, match="its header gives its colours in an unknown way") as caught:
        decode(path)
    assert "DOE" not in str(caught.value)


def of_pydicom(name: str) -> Path:
    """Return one of the files that come with pydicom."""
    found = get_testdata_file(name, download=False)
    assert isinstance(found, str)
    return Path(found)


@pytest.mark.parametrize("how", ["RLE", "jp2klossless", "jpeg_ls_lossless"])
def test_compressed_files_give_the_same_bytes_as_plain_ones(how: str) -> None:
    plain = decode(of_pydicom("MR_small.dcm"), 1).pixels
    assert plain.shape == (1, 1, 64, 64) and int(plain.max()) == 255
    assert np.array_equal(plain, decode(of_pydicom(f"MR_small_{how}.dcm"), 1).pixels)


def test_jpeg_of_12_bits_and_in_colour_is_read() -> None:
    assert decode(of_pydicom("JPGExtended.dcm"), 1).pixels.shape == (1, 1, 1024, 256)
    corner = decode(of_pydicom("SC_rgb_jpeg_dcmtk.dcm"), 3).pixels[0, :, 0, 0].tolist()
    assert corner[0] > 240 and max(corner[1:]) < 15  # red


def test_a_file_without_a_suffix_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    assert decode(write_dicom(tmp_path / "IM000001", CT), 1).pixels.shape == (1, 1, 2, 3)


@pytest.mark.parametrize("tag", ["Rows", "PhotometricInterpretation", "PixelData"])
def test_a_file_that_lacks_what_it_needs_is_unreadable_and_no_value_of_it_is_told(tmp_path: Path, tag: str) -> None:
    lacking: dict[str, Any] = {tag: None}
    path = write_dicom(tmp_path / "a.dcm", CT, **lacking)
    with pytest.raises(UnreadableImageError) as caught:
        decode(path, 1)
    assert CANARY not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 700), place=st.integers(0, 700), byte=st.integers(0, 255))
def test_damage_gives_an_image_or_our_error_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, cut: int, place: int, byte: int
) -> None:
    path = write_dicom(tmp_path_factory.getbasetemp() / "damaged" / "a.dcm", CT)
    content = bytearray(path.read_bytes())
    content[place % len(content)] = byte
    path.write_bytes(content[: max(len(content) - cut, 0)])
    try:
        images = decode(path, 1)
    except UnreadableImageError:
        return
    assert images.pixels.dtype == np.uint8


def test_without_the_extra_the_error_names_it_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_dicom(tmp_path / "secret.dcm", CT)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    for read in (read_header, lambda path: decode(path, 1)):
        with pytest.raises(DataError, match=r"pip install 'fl-app\[dicom\]'") as caught:
            read(path)
        assert not isinstance(caught.value, UnreadableImageError)  # all such files are concerned, none is skipped
        assert "secret" not in caught.value.public and "extra 'dicom'" in caught.value.public


def test_predicting_takes_a_frame_and_several_only_where_it_may_convert(tmp_path: Path) -> None:
    expected = DatasetInfo(("a",), 1, 4)
    one, two = np.zeros((4, 4), dtype=np.uint8), np.zeros((2, 4, 4), dtype=np.uint8)
    write_dicom(tmp_path / "a.dcm", one), write_dicom(tmp_path / "b.dcm", two)

    def shape(name: str, may_convert: bool) -> tuple[int, ...]:
        (found,) = read_images([tmp_path / name], expected, may_convert=may_convert)
        assert not isinstance(found, UnreadableImageError)
        return tuple(found.shape)

    assert shape("a.dcm", False) == (1, 1, 4, 4)
    with pytest.raises(DataError, match="holds 2 frames"):
        shape("b.dcm", False)
    assert shape("b.dcm", True) == (2, 1, 4, 4)


def test_padding_does_not_count_for_the_smallest_and_the_largest_value(tmp_path: Path) -> None:
    values = np.array([[-2000, 0], [50, 100]], dtype=np.int16)
    plain = write_dicom(tmp_path / "a.dcm", values[1:])
    padded = write_dicom(tmp_path / "b.dcm", values, PixelPaddingValue=-2000)
    assert decode(padded, 1).pixels.tolist() == [[[[0, 0], [128, 255]]]]
    assert decode(plain, 1).pixels.tolist() == [[[[0, 255]]]]
