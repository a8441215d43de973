"""What a hospital learns of its own folder."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.data import get_testdata_file

from fl_app.data.survey import Survey, survey
from fl_app.errors import DataError
from tests.data.conftest import write_images
from tests.data.dicoms import write_dicom


def test_class_folders_are_counted_by_class_size_and_channels(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 2, "b": 0}, size=(6, 4))
    Image.new("RGB", (3, 3)).save(tmp_path / "b" / "c.png")
    found = survey(tmp_path)
    assert found == Survey(
        layout="class folders",
        class_counts={"a": 2, "b": 1},
        part_counts={"train": 3},
        sizes={(6, 4): 2, (3, 3): 1},
        channels={1: 2, 3: 1},
        num_files=3,
        num_patients=None,
        num_patients_on_two_sides=0,
        unreadable=(),
        labels_without_file=(),
        files_without_label=(),
        duplicates=(),
        contradictions=(),
        num_constant=1,
    )
    assert (found.num_images, found.unreadable_share) == (3, 0.0)


def test_an_agreed_class_without_images_is_counted_as_none(tmp_path: Path) -> None:
    assert survey(write_images(tmp_path, {"a": 1}), ["b", "a"]).class_counts == {"b": 0, "a": 1}


def test_gaps_between_table_and_files_are_found_in_both_directions(tmp_path: Path) -> None:
    write_images(tmp_path, {"x": 3})
    lines = ["file,label", "x/patient-0.png,a", "x/patient-1.png,a", "x/gone.png,b", "broken.png,b"]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    (tmp_path / "broken.png").write_bytes(b"x")
    found = survey(tmp_path)
    assert found.labels_without_file == ("x/gone.png",) and found.files_without_label == ("x/patient-2.png",)
    ((name, reason),) = found.unreadable
    assert name == "broken.png" and "cannot be read as an image" in reason
    assert (found.class_counts, found.num_files, found.unreadable_share) == ({"a": 2, "b": 0}, 4, 0.5)


def test_the_same_pixels_are_found_in_files_that_differ_and_labels_that_differ_are_named(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 2, "b": 0})
    with Image.open(tmp_path / "a" / "patient-0.png") as image:
        image.save(tmp_path / "b" / "copy.tif")
    with Image.open(tmp_path / "a" / "patient-1.png") as image:
        image.save(tmp_path / "a" / "copy.tif")
    found = survey(tmp_path)
    assert sorted(found.duplicates) == [("a/copy.tif", "a/patient-1.png"), ("a/patient-0.png", "b/copy.tif")]
    assert found.contradictions == (("a/patient-0.png", "b/copy.tif"),)


def test_a_patient_of_dicom_files_on_two_sides_is_counted(tmp_path: Path) -> None:
    for part, patient in (("train", "1"), ("val", "1"), ("test", "2")):
        pixels = np.full((2, 2, 2), int(patient), dtype=np.uint8)
        write_dicom(tmp_path / part / "a" / "scan.dcm", pixels, PatientID=patient)
    found = survey(tmp_path)
    assert (found.num_patients, found.num_patients_on_two_sides) == (2, 1)
    assert found.part_counts == {"train": 2, "validation": 2, "test": 2} and found.num_files == 3


def shades(largest: int, depth: type = np.uint16) -> NDArray[Any]:
    return np.array([[0, largest], [largest // 2, 0]], dtype=depth)


def test_16_bit_images_that_use_12_bits_only_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for value in (3_900, 60_000):
        Image.fromarray(shades(value)).save(tmp_path / "a" / f"{value}.png")
    found = survey(tmp_path)
    assert (found.num_faint, found.num_faint_deep, found.num_constant) == (1, 1, 0)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_constant_and_nearly_black_images_are_counted_in_an_npz_too(tmp_path: Path, depth: type) -> None:
    faint = 16 if depth == np.uint8 else 3_900
    images = np.stack([shades(faint, depth), shades(200 * faint // 16, depth), np.full((2, 2), 255, dtype=depth)])
    np.savez(tmp_path / "d.npz", train_images=images, train_labels=[0, 1, 0])
    found = survey(tmp_path)
    assert (found.num_constant, found.num_faint, found.num_faint_deep) == (1, 1, int(depth == np.uint16))


@pytest.mark.parametrize(("size", "num_bright", "is_faint"), [(28, 1, 1), (28, 2, 0), (200, 40, 1), (200, 41, 0)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_few_bright_pixels_do_not_hide_a_dark_picture(
    tmp_path: Path, size: int, num_bright: int, is_faint: int, mode: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 17, (size, size), dtype=np.uint8)
    pixels.reshape(-1)[:num_bright] = 255
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).convert(mode).save(tmp_path / "a" / "b.png")
    found = survey(tmp_path)
    assert (found.num_faint, found.num_constant) == (is_faint, 0)


def test_a_hard_link_that_gives_an_image_two_labels_is_found(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 2, "b": 1})
    os.link(tmp_path / "a" / "patient-0.png", tmp_path / "b" / "other.png")
    assert survey(tmp_path).contradictions == (("a/patient-0.png", "b/other.png"),)


def test_a_picture_that_its_own_window_makes_white_is_counted(tmp_path: Path) -> None:
    pixels = np.arange(8, dtype=np.uint16).reshape(2, 4)
    write_dicom(tmp_path / "a" / "b.dcm", pixels, WindowCenter=-500, WindowWidth=2)
    write_dicom(tmp_path / "a" / "c.dcm", pixels, WindowCenter=4, WindowWidth=0)
    found = survey(tmp_path)
    assert (found.num_constant, found.num_windows_ignored) == (1, 1)


def test_reports_in_class_folders_are_passed_over_and_counted(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 2})
    report = get_testdata_file("reportsi.dcm", download=False)
    assert isinstance(report, str)
    shutil.copy(report, tmp_path / "a" / "report.dcm")
    found = survey(tmp_path)
    assert (found.num_files, found.num_without_image, found.unreadable) == (2, 1, ())


def test_an_npz_is_surveyed_by_its_arrays(tmp_path: Path) -> None:
    images = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    np.savez(tmp_path / "d.npz", train_images=images, train_labels=[0, 1], test_images=images[:1], test_labels=[1])
    found = survey(tmp_path)
    assert (found.layout, found.class_counts, found.num_files) == ("npz", {"0": 1, "1": 2}, 3)
    assert found.part_counts == {"train": 2, "test": 1} and found.sizes == {(4, 4): 3}
    assert found.duplicates == found.contradictions == (("train/0", "test/0"),)


def test_what_no_run_could_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        survey(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is not a class of this run"):
        survey(write_images(tmp_path, {"x": 1}), ["a"])
