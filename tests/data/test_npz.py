"""A folder with an npz in MedMNIST's form, and every way in which one can be wrong."""

import os
import tracemalloc
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib import format as npy

from fl_app.data import decoders, npz_arrays
from fl_app.data.folder import info, read_parts
from fl_app.data.images import DatasetInfo
from fl_app.data.listing import PARTS
from fl_app.data.npz_arrays import describe, read_pieces
from fl_app.errors import DataError
from fl_app.options.sections import OptionValue
from tests.options import run_config

GREY = DatasetInfo(("a", "b", "c"), 1, 4)


def arrays(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "train_images": np.arange(48, dtype=np.uint8).reshape(3, 4, 4),
        "train_labels": np.array([[0], [2], [0]]),
        "val_images": np.full((1, 4, 4), 7, dtype=np.uint8),
        "val_labels": np.array([1]),
        "test_images": np.zeros((2, 4, 4), dtype=np.uint8),
        "test_labels": np.array([[1], [1]], dtype=np.uint8),
    }
    return {name: value for name, value in (found | changes).items() if value is not None}


def write(folder: Path, **changes: Any) -> Path:
    np.savez(folder / "images.npz", **arrays(**changes))
    return folder


def refusal(folder: Path, expected: DatasetInfo = GREY) -> str:
    with pytest.raises(DataError) as caught:
        read_parts(folder, expected, ["train", "validation"])
    assert "npz" in caught.value.public and str(folder) not in caught.value.public
    return str(caught.value)


def test_the_parts_are_read_as_they_are(tmp_path: Path) -> None:
    parts = read_parts(write(tmp_path), GREY, ["train", "validation", "test"]).parts
    assert parts["train"].images.flatten().tolist() == list(range(48))
    assert {name: part.labels.tolist() for name, part in parts.items()} == {
        "train": [0, 2, 0],
        "validation": [1],
        "test": [1, 1],
    }


def test_parts_other_than_the_training_part_may_lack(tmp_path: Path) -> None:
    lacking = dict.fromkeys(("val_images", "val_labels", "test_images", "test_labels"))
    assert len(read_parts(write(tmp_path, **lacking), GREY, ["train", "validation"]).parts["validation"]) == 0


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 4, 4, 1), (3, 4, 4, 3), (3, 9, 5, 3)])
@pytest.mark.parametrize("num_channels", [1, 3])
def test_images_get_the_expected_channels_and_size(tmp_path: Path, shape: tuple[int, ...], num_channels: int) -> None:
    write(tmp_path, train_images=np.full(shape, 50, dtype=np.uint8))
    found = read_parts(tmp_path, DatasetInfo(("a", "b", "c"), num_channels, 4), ["train"]).parts["train"].images
    assert torch.equal(found, torch.full((3, num_channels, 4, 4), 50, dtype=torch.uint8))


def test_16_bits_are_scaled_as_in_files(tmp_path: Path) -> None:
    write(tmp_path, train_images=np.full((3, 4, 4), 32_768, dtype=np.uint16))
    assert read_parts(tmp_path, GREY, ["train"]).parts["train"].images.unique().tolist() == [128]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_images": None}, "holds no array train_images"),
        ({"train_labels": None}, "holds no array train_labels"),
        ({"val_labels": None}, "holds no array val_labels"),
        ({"train_images": np.zeros((3, 4), dtype=np.uint8)}, "train_images is uint8 [3, 4]"),
        ({"train_images": np.zeros((3, 4, 4, 2), dtype=np.uint8)}, "train_images is uint8 [3, 4, 4, 2]"),
        ({"train_images": np.zeros((3, 0, 4), dtype=np.uint8)}, "train_images is uint8 [3, 0, 4]"),
        ({"train_images": np.zeros((3, 4, 4))}, "train_images is float64"),
        ({"train_labels": np.zeros((3, 2), dtype=int)}, "Expected one label an image"),
        ({"train_labels": np.zeros(2, dtype=int)}, "train_labels is int64 [2]"),
        ({"train_labels": np.zeros(3)}, "train_labels is float64"),
        ({"train_labels": np.array([0, 3, 0])}, "labels from 0 to 3. Expected 0 to 2"),
        ({"train_labels": np.array([0, -1, 0])}, "labels from -1 to 0"),
        ({"train_labels": np.array(["a", "b", "c"], dtype=object)}, "cannot be read as npz"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    assert words in refusal(write(tmp_path, **changes))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + b"\0" * 40, b"\x93NUMPY"])
def test_a_broken_npz_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "images.npz").write_bytes(content)
    assert "images.npz cannot be read as npz" in refusal(tmp_path)


def test_a_damaged_npz_is_our_error(tmp_path: Path) -> None:
    content = bytearray((write(tmp_path) / "images.npz").read_bytes())
    for place in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        (tmp_path / "images.npz").write_bytes(damaged)
        try:
            read_parts(tmp_path, GREY, ["train", "validation"])
        except DataError:
            continue


@pytest.mark.parametrize("other", ["more.npz", "labels.csv"])
def test_a_second_source_of_labels_is_refused(tmp_path: Path, other: str) -> None:
    (write(tmp_path) / other).touch()
    assert "it is not clear which one holds the images" in refusal(tmp_path)


def test_classes_are_numbers_up_to_the_largest_of_any_part(tmp_path: Path) -> None:
    options: dict[str, OptionValue] = {
        "data.source": "folder",
        "data.directory": str(write(tmp_path)),
        "data.image-size": 4,
    }
    assert info(run_config(options).data) == DatasetInfo(("0", "1", "2"), 1, 4)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", [">u2", "<u2", "u1"])
def test_every_order_of_bytes_and_of_axes_is_read(tmp_path: Path, order: Any, kind: str) -> None:
    values = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3))
    stored = np.asarray(values * (257 if kind[-1] == "2" else 1), dtype=kind, order=order)
    found = read_parts(write(tmp_path, train_images=stored), DatasetInfo(("a", "b", "c"), 3, 4), ["train"])
    assert found.parts["train"].images.permute(0, 2, 3, 1).tolist() == values.tolist()


@pytest.mark.parametrize("piece", [1, 16, 40])
@pytest.mark.parametrize("order", ["C", "F"])
def test_large_arrays_are_read_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, order: Any
) -> None:
    images = arrays()["train_images"]
    path = write(tmp_path, train_images=np.asarray(images, order=order)) / "images.npz"
    monkeypatch.setattr(npz_arrays, "_PIECE", piece)
    pieces = list(read_pieces(path, "train"))
    assert all(found.nbytes <= max(piece, 16) for found in pieces)
    assert np.array_equal(np.concatenate(pieces)[..., 0], images)


def judged(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return why an npz is refused, having checked that nothing but headers was unpacked."""
    monkeypatch.setattr(npz_arrays, "_read", None)
    tracemalloc.start()
    with pytest.raises(DataError) as caught:
        describe(path, "train")
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
    return str(caught.value)


def write_header(folder: Path, shape: tuple[int, ...], content: bytes, is_fortran: bool = False) -> Path:
    """Write an npz whose header of images says so."""
    buffer = BytesIO()
    npy.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": is_fortran, "shape": shape})
    with zipfile.ZipFile(folder / "images.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("train_images.npy", buffer.getvalue() + content)
        file.writestr("train_labels.npy", b"")
    return folder / "images.npz"


def test_an_npz_that_unpacks_to_a_thousand_times_its_size_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz_arrays, "_LARGE", 2**20)
    path = write_header(tmp_path, (2**17, 4, 4), bytes(2**21))
    assert "times its size in the file. Expected at most 100 times" in judged(path, monkeypatch)


def test_an_array_that_says_it_is_larger_than_it_is_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "more values than the file holds" in judged(write_header(tmp_path, (9, 9, 9), b""), monkeypatch)


def test_an_image_of_more_than_50_million_pixels_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_header(tmp_path, (1, 7_072, 7_072), bytes(7_072**2))
    assert "its header says 7072 x 7072 pixels, more than 50 million" in judged(path, monkeypatch)


def test_a_large_array_in_fortran_s_order_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz_arrays, "MOST_VALUES", 1_000)
    assert describe(write(tmp_path) / "images.npz", "train").labels.tolist() == [0, 2, 0]
    path = write_header(tmp_path, (30, 6, 6), bytes(1_080), is_fortran=True)
    assert "Save it again from numpy.ascontiguousarray" in judged(path, monkeypatch)


def test_a_header_of_many_megabytes_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = b"\x93NUMPY\x02\x00" + (20_000_000).to_bytes(4, "little") + b" " * 20_000_000
    with zipfile.ZipFile(tmp_path / "images.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("train_images.npy", header)
        file.writestr("train_labels.npy", b"")
    found = judged(tmp_path / "images.npz", monkeypatch)
    assert "the header of train_images.npy is longer than 10000 bytes" in found


def test_a_side_below_zero_is_refused(tmp_path: Path) -> None:
    write_header(tmp_path, (-1, 4, 4), bytes(16))
    assert "negative size" in refusal(tmp_path)


def test_tiny_images_do_not_fill_the_memory_when_they_are_enlarged(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", train_images=np.zeros((5_000, 1, 1), np.uint8), train_labels=np.zeros(5_000, int))
    assert "would take 1.3 GB when enlarged to 512 x 512" in refusal(tmp_path, DatasetInfo(("a",), 1, 512))


def test_an_npz_is_read_in_a_process_of_its_own_that_may_die(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(worker: Any, seconds: float) -> Any:
        worker._process.kill()
        return receive(worker, seconds)

    write(tmp_path)
    assert len(read_parts(tmp_path, GREY, ["train"]).parts["train"]) == 3
    receive = decoders._Worker._receive
    monkeypatch.setattr(decoders._Worker, "_receive", die)
    assert "its decoder crashed, or took more than 1 GiB" in refusal(tmp_path)
    monkeypatch.undo()
    assert len(read_parts(tmp_path, GREY, ["train"]).parts["train"]) == 3


def test_an_npz_whose_test_part_is_drawn_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def count(path: Path, part: Any) -> Any:
        for told, array in decoders.read_npz_part(path, part):
            taken.append(0 if told.num_channels else len(array))
            yield told, array

    monkeypatch.setattr("fl_app.data.npz.read_npz_part", count)
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", train_images=images, train_labels=np.zeros(40, int))
    found = read_parts(tmp_path, GREY, PARTS, test_share=0.3)
    assert found.is_test_drawn and sum(taken) == len(images)


def test_a_pipe_is_no_npz_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "images.npz")
    assert "it is no regular file" in refusal(tmp_path)
