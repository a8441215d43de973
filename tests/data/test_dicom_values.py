"""Lookup tables, windows and padding whose header says one thing and whose data another."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from fl_app.data.decoding import Picture, decode
from fl_app.data.dicom_values import make_lookup, padding
from fl_app.data.unreadable import UnreadableImageError
from tests.data.dicoms import write_dicom

RAMP = np.arange(4096, dtype=np.uint16).reshape(1, -1)


def item(descriptor: list[int], data: Any, kind: str = "US") -> Sequence:
    lut = Dataset()
    lut.add_new("LUTDescriptor", "SS" if min(descriptor) < 0 else "US", descriptor)
    lut.add_new("LUTData", kind, data)
    return Sequence([lut])


def read(tmp_path: Path, pixels: NDArray[Any], **tags: Any) -> Picture:
    return decode(write_dicom(tmp_path / "a.dcm", pixels, **tags), 1)


def is_ramp(found: Picture) -> bool:
    """Tell whether grey rises from black to white with the values."""
    grey = found.pixels.reshape(-1).astype(int)
    return bool(grey[0] == 0 and grey[-1] == 255 and (np.diff(grey) >= 0).all())


@pytest.mark.parametrize("how", ["words", "bytes of words", "packed bytes"])
def test_a_table_of_8_bits_may_have_more_than_256_entries(tmp_path: Path, how: str) -> None:
    entries = (np.arange(4096) // 16).astype("<u2")
    data: Any = entries.tolist() if how == "words" else entries.tobytes()
    data = entries.astype(np.uint8).tobytes() if how == "packed bytes" else data
    lut = item([4096, 0, 8], data, "US" if how == "words" else "OW")
    assert is_ramp(read(tmp_path, RAMP, VOILUTSequence=lut))


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_table_of_12_bits_reaches_white_whatever_its_descriptor_says(tmp_path: Path, bits: int) -> None:
    assert is_ramp(read(tmp_path, RAMP, VOILUTSequence=item([4096, 0, bits], list(range(4096)))))


def test_a_table_for_negative_values_may_write_its_first_value_without_a_sign(tmp_path: Path) -> None:
    pixels = np.arange(-2048, 2048, dtype=np.int16).reshape(1, -1)
    entries = [16 * value for value in range(4096)]
    right, wrong = item([4096, -2048, 16], entries), item([4096, 65_536 - 2048, 16], entries)
    assert is_ramp(read(tmp_path, pixels, VOILUTSequence=right))
    assert is_ramp(read(tmp_path, pixels, VOILUTSequence=wrong))


def rescaled(intercept: float, slope: float, is_in_group: bool) -> dict[str, Any]:
    tags = {"RescaleIntercept": intercept, "RescaleSlope": slope, "RescaleType": "HU"}
    if not is_in_group:
        return tags
    group, transformation = Dataset(), Dataset()
    for name, value in tags.items():
        setattr(transformation, name, value)
    group.PixelValueTransformationSequence = Sequence([transformation])
    return {"SharedFunctionalGroupsSequence": Sequence([group])}


@pytest.mark.parametrize("is_in_group", [True, False])
@pytest.mark.parametrize(("intercept", "slope"), [(-1024, 1), (0, -1), (-4095, 1)])
def test_a_first_value_without_its_sign_is_known_by_the_rescaled_values(
    tmp_path: Path, intercept: int, slope: int, is_in_group: bool
) -> None:
    first = min(intercept, intercept + 4095 * slope)
    lut = item([4096, first + 65_536, 16], [16 * value for value in range(4096)])
    pixels = RAMP[:, ::slope].copy()
    assert is_ramp(read(tmp_path, pixels, VOILUTSequence=lut, **rescaled(intercept, slope, is_in_group)))


@pytest.mark.parametrize("is_in_group", [True, False])
def test_a_first_value_that_is_large_stays_so_whatever_the_intercept(tmp_path: Path, is_in_group: bool) -> None:
    pixels = np.arange(60_000, 64_096, dtype=np.uint16).reshape(1, -1)
    lut = item([4096, 59_990, 16], [16 * value for value in range(4096)])
    assert is_ramp(read(tmp_path, pixels, VOILUTSequence=lut, **rescaled(-10, 1, is_in_group)))


def test_a_modality_table_of_8_bits_may_have_more_than_256_entries(tmp_path: Path) -> None:
    lut = item([4096, 0, 8], (np.arange(4096) // 16).tolist())
    lut[0].ModalityLUTType = "US"
    assert is_ramp(read(tmp_path, RAMP, ModalityLUTSequence=lut))


def test_a_palette_of_8_bits_may_have_more_than_256_entries(tmp_path: Path) -> None:
    entries = (np.arange(4096) // 16).astype(np.uint8).tobytes()
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [4096, 0, 8]
        tags[f"{colour}PaletteColorLookupTableData"] = entries
    assert is_ramp(read(tmp_path, RAMP, **tags))


@pytest.mark.parametrize("place", ["PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"])
def test_a_table_in_a_functional_group_is_used(tmp_path: Path, place: str) -> None:
    group, voi = Dataset(), Dataset()
    voi.VOILUTSequence = item([4096, 0, 16], [16 * value for value in reversed(range(4096))])
    group.FrameVOILUTSequence = Sequence([voi])
    found = read(tmp_path, RAMP, **{place: Sequence([group])})
    assert found.pixels[0, 0, 0, [0, -1]].tolist() == [255, 0]


@pytest.mark.parametrize("lut", [Sequence([Dataset()]), item([4096, 0, 16], [1, 2, 3]), Sequence([])])
def test_a_table_that_is_none_is_passed_over_for_the_window(tmp_path: Path, lut: Sequence) -> None:
    found = read(tmp_path, RAMP, VOILUTSequence=lut, WindowCenter=2048, WindowWidth=4096)
    assert is_ramp(found)


@pytest.mark.parametrize(
    ("entries", "count", "bits"), [([1, 2], 3, 16), ([1], 3, 8), (b"\1\2", 3, 8), (b"", 1, 8), ([], 0, 16)]
)
def test_a_table_with_fewer_entries_than_it_says_is_none(entries: Any, count: int, bits: int) -> None:
    with pytest.raises(ValueError, match="lookup table"):
        make_lookup(count, 0, bits, entries, False, True)


@pytest.mark.parametrize(
    ("pixels", "value"),
    [
        (np.array([[-2000, 0, 50, 100]], dtype=np.int16), 63_536),
        (np.array([[63_536, 0, 50, 100]], dtype=np.uint16), -2000),
        (np.array([[-2000, 0, 50, 100]], dtype=np.int16), -2000),
    ],
)
def test_padding_is_known_whatever_its_sign(tmp_path: Path, pixels: NDArray[Any], value: int) -> None:
    path = write_dicom(tmp_path / "a.dcm", pixels)
    file = dcmread(path)
    file.add_new("PixelPaddingValue", "SS" if value < 0 else "US", value)
    file.save_as(path)
    assert decode(path, 1).pixels[0, 0, 0, 1:].tolist() == [0, 128, 255]


def test_a_range_of_padding_may_have_the_wrong_sign_too(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.array([[-2000, -1990, 0, 50, 100]], dtype=np.int16))
    file = dcmread(path)
    file.add_new("PixelPaddingValue", "US", 63_536)
    file.add_new("PixelPaddingRangeLimit", "US", 63_546)
    file.save_as(path)
    assert decode(path, 1).pixels[0, 0, 0].tolist() == [0, 0, 0, 128, 255]


@pytest.mark.parametrize(
    ("kind", "ends", "is_padding"),
    [
        (np.uint16, (-10, 10), [1, 1, 0, 0, 0, 1, 1]),
        (np.uint16, (10, -10), [1, 1, 0, 0, 0, 1, 1]),
        (np.uint16, (65_526, 65_535), [0, 0, 0, 0, 0, 1, 1]),
        (np.uint16, (-10, -1), [0, 0, 0, 0, 0, 1, 1]),
        (np.uint16, (0, 40_000), [1, 1, 1, 1, 0, 0, 0]),
        (np.int16, (65_526, 10), [1, 1, 0, 0, 0, 1, 1]),
        (np.int16, (-10, 10), [1, 1, 0, 0, 0, 1, 1]),
    ],
)
def test_a_range_of_padding_may_go_beyond_zero(kind: type, ends: tuple[int, int], is_padding: list[int]) -> None:
    file = Dataset()
    file.BitsAllocated = 16
    for name, end in zip(("PixelPaddingValue", "PixelPaddingRangeLimit"), ends, strict=True):
        file.add_new(name, "SS" if end < 0 else "US", end)
    stored: NDArray[Any] = np.array([0, 10, 11, 40_000, 65_525, 65_526, 65_535], dtype=np.uint16).view(kind)
    assert padding(file, stored).astype(int).tolist() == is_padding


@pytest.mark.parametrize("name", ["linear", "Sigmoid", " LINEAR_EXACT"])
def test_the_name_of_a_window_s_function_may_be_in_lower_case(tmp_path: Path, name: str) -> None:
    tags: dict[str, Any] = {"WindowCenter": 2048, "WindowWidth": 1000}
    one = read(tmp_path, RAMP, **tags, VOILUTFunction=name.strip().upper())
    path = write_dicom(tmp_path / "b.dcm", RAMP, **tags)
    file = dcmread(path)
    file.add_new("VOILUTFunction", "LO", name)
    file.save_as(path)
    other = decode(path, 1)
    assert np.array_equal(one.pixels, other.pixels) and not other.is_window_ignored


@pytest.mark.parametrize("text", [b"40,5", b"forty ", b"nan "])
def test_a_window_that_is_no_number_is_none(tmp_path: Path, text: bytes) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP, WindowCenter="40.5", WindowWidth="80.5")
    content = path.read_bytes()
    assert content.count(b"40.5") == 1
    path.write_bytes(content.replace(b"40.5", text[:4].ljust(4)))
    found = decode(path, 1)
    assert is_ramp(found) and found.is_window_ignored


def test_a_slope_that_is_no_number_makes_the_file_unreadable(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", RAMP, RescaleSlope="1.25", RescaleIntercept="0")
    path.write_bytes(path.read_bytes().replace(b"1.25", b"1,25"))
    with pytest.raises(UnreadableImageError, match="RescaleSlope or RescaleIntercept is no number"):
        decode(path, 1)


def test_colours_with_a_sign_are_no_picture(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.full((2, 2, 3), 200, dtype=np.uint8), PixelRepresentation=1)
    with pytest.raises(UnreadableImageError, match="beyond the 8 bits"):
        decode(path, 3)
