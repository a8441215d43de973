"""Seeded damage to a file of every kind: an image or one unreadable file, and nothing else."""

import random
import time
from pathlib import Path

import numpy as np
import pytest

from fl_app.data.decoders import read_files
from fl_app.data.decoding import Picture, decode
from fl_app.data.folder import read_parts
from fl_app.data.images import DatasetInfo
from fl_app.data.label_table import read_table
from fl_app.data.unreadable import UnreadableImageError
from fl_app.data.worker import Request
from fl_app.errors import DataError
from tests.data.damage import all_damages, buffer_of, damages, difference_from_pydicom, installed, write_good

_COPIES = 12  # of each file


def test_every_good_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    for path in write_good(tmp_path / "good"):
        assert decode(path).pixels.size > 0


def test_damage_to_any_file_gives_an_image_or_one_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    paths = all_damages(write_good(tmp_path / "good"), tmp_path / "damaged", _COPIES, seed=1)
    start, count = time.process_time(), 0
    for path, found in zip(paths, read_files([Request(path) for path in paths]), strict=True):
        count += 1
        if isinstance(found, UnreadableImageError):
            reason = str(found).replace(str(path), "")
            assert len(reason) < 400 and found.public in ("an image is broken", "a DICOM file holds no image")
        else:
            assert found.pixels.dtype == np.uint8 and found.pixels.size > 0
    assert count == len(paths) and time.process_time() - start < 60


def test_damage_to_the_pixels_of_a_png_never_gives_other_pixels(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    files = [path for path in write_good(tmp_path / "good") if path.suffix == ".png"]
    whole = {path.name: decode(path).pixels for path in files}
    for path in all_damages(files, tmp_path / "damaged", 100, seed=2):
        try:
            found = decode(path).pixels
        except UnreadableImageError:
            continue
        assert np.array_equal(found, whole[path.name.partition("-")[2]])


def test_damage_to_an_npz_is_our_error_or_gives_the_same_images(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 6), dtype=np.uint8)
    content = buffer_of({"train_images": images, "train_labels": np.array([0, 1, 0, 1, 1])})
    for damaged in damages(content, 150, random.Random(3)):
        (tmp_path / "d.npz").write_bytes(damaged)
        try:
            found = read_parts(tmp_path, DatasetInfo(("a", "b"), 1, 6), ["train"]).parts["train"]
        except DataError:
            continue
        assert found.images[:, 0].tolist() == images.tolist()


def test_damage_to_a_table_is_our_error_or_gives_rows(tmp_path: Path) -> None:
    lines = "".join(f"a/{number}.png,benign,{number % 5},train\n" for number in range(20))
    for damaged in damages(f"file,label,patient,split\n{lines}".encode(), 300, random.Random(4)):
        (tmp_path / "labels.csv").write_bytes(damaged)
        try:
            rows = read_table(tmp_path / "labels.csv")
        except DataError:
            continue
        assert all(row.path.is_relative_to(tmp_path) for row in rows)


def test_every_file_of_pydicom_s_own_package_is_an_image_or_one_unreadable_file() -> None:
    paths = installed()
    read, reasons = 0, []
    for path, found in zip(paths, read_files([Request(path) for path in paths]), strict=True):
        if isinstance(found, Picture):
            read += 1
            difference = difference_from_pydicom(path, found.pixels)
            assert difference is None or difference <= 1, path.name  # of 255
        else:
            reasons.append(str(found).replace(str(path), ""))
    assert read >= 90
    assert not any("crashed" in reason or "takes more" in reason for reason in reasons)


@pytest.mark.parametrize("name", ["MR_small", "CT_small"])
def test_damage_beside_the_pixels_and_their_description_changes_no_pixel(tmp_path: Path, name: str) -> None:
    (path,) = (path for path in installed() if path.name == f"{name}.dcm")
    content, whole = path.read_bytes(), decode(path).pixels
    at = content.index(b"\x10\x00\x10\x00PN")  # the patient's name: its text may be anything
    length = int.from_bytes(content[at + 6 : at + 8], "little")
    draw = random.Random(5)
    for _ in range(20):
        damaged = bytearray(content)
        damaged[at + 8 : at + 8 + length] = bytes(draw.randrange(256) for _ in range(length))
        (tmp_path / "a.dcm").write_bytes(damaged)
        assert np.array_equal(decode(tmp_path / "a.dcm").pixels, whole)
