"""Decoded images on disk: the same as those of the folder, until the folder or an option changes."""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fl_app.data import image_cache
from fl_app.data.decoders import read_files
from fl_app.data.decoding import Picture
from fl_app.data.folder import OwnImages, read_parts
from fl_app.data.image_cache import FOLDER, clear
from fl_app.data.unreadable import UnreadableImageError
from fl_app.data.worker import Request
from fl_app.errors import DataError
from fl_app.node.images import LocalData, hospital_info, load_local
from fl_app.node.split import find_key
from fl_app.node.state import key_file
from fl_app.options.node import NodeConfig
from fl_app.options.sections import OptionValue
from tests.data.conftest import write_images
from tests.data.dicoms import write_dicom
from tests.options import NO_MINIMUMS, run_config


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_images(tmp_path / "data", {"a": 12, "b": 8})


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the number of files whenever files are decoded."""
    counts: list[int] = []

    def count(requests: Sequence[Request]) -> Iterator[Picture | UnreadableImageError]:
        counts.append(len(requests))
        return read_files(requests)

    monkeypatch.setattr("fl_app.data.folder.read_files", count)
    return counts


def load(data: Path, node: dict[str, OptionValue] | None = None, **options: OptionValue) -> LocalData:
    chosen: dict[str, OptionValue] = {"source": "folder", "class-names": "a,b", "num-channels": 1, "image-size": 8}
    share: dict[str, OptionValue] = {"test-share": options.pop("test_share")} if "test_share" in options else {}
    chosen |= {name.replace("_", "-"): value for name, value in options.items()}
    config = run_config({f"data.{name}": value for name, value in chosen.items()})
    own: dict[str, OptionValue] = {"data-path": str(data), "site": "north", "state-dir": str(data.parent / "state")}
    options_of_node = NodeConfig.from_flat(NO_MINIMUMS | own | share | (node or {}))
    find_key(key_file(options_of_node), makes=True)
    return load_local(config, options_of_node, is_trial=True)


def are_equal(one: LocalData, other: LocalData) -> bool:
    for name in ("train", "validation", "test"):
        left, right = getattr(one, name), getattr(other, name)
        if not (torch.equal(left.images, right.images) and torch.equal(left.labels, right.labels)):
            return False
        if (left.patients is None) != (right.patients is None) or left.class_names != right.class_names:
            return False
        if left.patients is not None and not torch.equal(left.patients, right.patients):
            return False
    return (one.test_from, one.num_unreadable) == (other.test_from, other.num_unreadable)


@pytest.mark.parametrize("form", ["class folders", "npz", "dicom"])
def test_the_second_message_gets_the_same_images_without_reading_the_folder(
    data: Path, decoded: list[int], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "npz":
        data = data.parent / "npz"
        data.mkdir()
        images = np.random.default_rng(0).integers(0, 256, (30, 6, 6), dtype=np.uint8)
        np.savez(data / "d.npz", train_images=images, train_labels=np.arange(30) % 2)
    if form == "dicom":
        for number in range(8):
            pixels = np.random.default_rng(number).integers(0, 256, (2, 5, 5), dtype=np.uint8)
            write_dicom(data / "a" / f"{number}.dcm", pixels, PatientID=f"CANARY-{number % 4}")
    first = load(data)
    before = list(decoded)
    monkeypatch.setattr(image_cache, "read_parts", None)
    second = load(data)
    assert are_equal(first, second) and decoded == before


def touch(data: Path) -> None:
    path = data / "a" / "patient-0.png"
    Image.new("L", (6, 6), 9).save(path)


def swap(data: Path) -> None:
    """Put another image of the same length and time in a file's place."""
    path = data / "a" / "patient-0.png"
    state = path.stat()
    content = (data / "a" / "patient-1.png").read_bytes()
    path.write_bytes(content.ljust(state.st_size, b"\0")[: max(state.st_size, len(content))])
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


CHANGES: list[Callable[[Path], object]] = [
    touch,
    swap,
    lambda data: (data / "a" / "patient-0.png").unlink(),
    lambda data: (data / "a" / "patient-0.png").rename(data / "b" / "x.png"),
    lambda data: Image.new("L", (6, 6), 7).save(data / "b" / "new.png"),
    lambda data: (data / "labels.csv").write_text("file,label\na/patient-1.png,b\n"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_the_folder_is_seen(data: Path, change: Callable[[Path], object]) -> None:
    load(data)
    change(data)
    assert are_equal(load(data), load(data, {"max-cache-megabytes": 0}))


@pytest.mark.parametrize(
    "options",
    [{"image_size": 4}, {"num_channels": 3}, {"class_names": "b,a"}, {"test_share": 0.0}, {"class_names": ""}],
)
def test_every_option_that_changes_the_images_is_seen(data: Path, options: dict[str, OptionValue]) -> None:
    load(data)
    node: dict[str, OptionValue] = {"tell-class-names": True}
    assert are_equal(load(data, node, **options), load(data, node | {"max-cache-megabytes": 0}, **options))


def test_what_a_run_leaves_open_is_not_looked_up_anew(data: Path, decoded: list[int]) -> None:
    node: dict[str, OptionValue] = {"tell-class-names": True}
    load(data, node, class_names="", num_channels=0)
    before = list(decoded)
    found = load(data, node, class_names="", num_channels=0)
    assert decoded == before and found.train.class_names == ("a", "b")


def test_only_the_node_s_user_can_read_it_and_no_name_is_in_it(data: Path) -> None:
    for number in range(3):
        pixels = np.full((3, 3), number, dtype=np.uint8)
        write_dicom(data / "a" / f"secret-{number}.dcm", pixels, PatientID=f"CANARY-{number}")
    load(data, {"tell-class-names": True}, num_channels=0)
    kept = data.parent / "state" / FOLDER
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    files = list(kept.iterdir())
    assert len(files) == 2 and all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    assert not any(word in path.read_bytes() for path in files for word in (b"CANARY", b"secret", b"patient-0"))


def test_what_a_killed_process_left_half_written_is_deleted(data: Path) -> None:
    kept = data.parent / "state" / FOLDER
    kept.mkdir(parents=True)
    for name in (".partial-77", ".key.safetensors.partial.safetensors"):  # the first: of an earlier version
        (kept / name).write_bytes(b"half")
    load(data)
    assert [path.suffix for path in kept.iterdir()] == [".safetensors"] and not list(kept.glob(".*"))


@pytest.mark.parametrize("kind", ["safetensors", "json"])
def test_a_flipped_bit_anywhere_changes_nothing_and_the_damaged_result_is_replaced(
    data: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    node: dict[str, OptionValue] = {"tell-class-names": True}
    config = run_config({"data.source": "folder", "data.class-names": "", "data.image-size": 8})
    own: dict[str, OptionValue] = {"data-path": str(data), "site": "north", "state-dir": str(data.parent / "state")}
    site = NodeConfig.from_flat(NO_MINIMUMS | own | node)
    first, first_info = load(data, node, class_names="", num_channels=0), hospital_info(config, site)
    (path,) = (data.parent / "state" / FOLDER).glob(f"*.{kind}")
    content = path.read_bytes()
    end = len(content) if kind == "json" else 8 + int.from_bytes(content[:8], "little")  # of the header
    places = [*range(0, end, 11), len(content) // 2, len(content) - 1]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        if kind == "json":
            assert hospital_info(config, site) == first_info
        else:
            found = load(data, node, class_names="", num_channels=0)
            assert are_equal(found, first)
        if path.read_bytes() == bytes(damaged):  # a bit that means nothing
            path.write_bytes(content)
    assert "The cache of images is damaged" in caplog.text
    assert len(caplog.records) > len(places) // 2


def test_the_results_that_were_not_used_for_longest_make_room(data: Path) -> None:
    kept = data.parent / "state" / FOLDER
    node: dict[str, OptionValue] = {"max-cache-megabytes": 1}
    load(data, node, image_size=120)  # 20 images: 0.29 MB
    load(data, node, image_size=122)
    first = min(kept.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    os.utime(first, ns=(0, 0))
    load(data, node, image_size=120)  # used again
    load(data, node, image_size=124)
    load(data, node, image_size=126)
    assert first in kept.iterdir()
    assert sum(path.stat().st_size for path in kept.iterdir()) < 10**6


def test_what_is_larger_than_the_cap_is_not_kept(data: Path) -> None:
    load(data, {"max-cache-megabytes": 1}, image_size=512)
    load(data, {"max-cache-megabytes": 0})
    assert not (data.parent / "state" / FOLDER).exists()


def test_files_that_could_not_be_read_are_tried_again_after_a_while(
    data: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "a" / "broken.png").write_bytes(b"x")
    assert load(data).num_unreadable == 1
    count = len(decoded)
    assert load(data).num_unreadable == 1 and len(decoded) == count
    monkeypatch.setattr(image_cache, "_DOUBT_SECONDS", -1.0)
    assert load(data).num_unreadable == 1 and len(decoded) == count + 1


def test_a_cache_that_cannot_be_written_is_worth_a_warning(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    (data.parent / "state").mkdir()
    (data.parent / "state" / FOLDER).write_text("in the way")
    assert len(load(data).train) > 0
    assert "The images cannot be kept in" in caplog.text


def test_a_folder_that_changes_while_it_is_read_is_not_kept(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(*given: Any) -> OwnImages:
        found = read_parts(*given)
        touch(data)
        return found

    monkeypatch.setattr(image_cache, "read_parts", change)
    load(data)
    assert not (data.parent / "state" / FOLDER).exists()


def test_a_folder_that_is_gone_is_an_error_and_not_remembered_images(data: Path) -> None:
    load(data)
    data.rename(data.parent / "elsewhere")
    with pytest.raises(DataError, match="does not exist"):
        load(data)


def test_clearing_deletes_the_images_and_nothing_else(data: Path) -> None:
    load(data)
    state = data.parent / "state"
    (state / "run").mkdir()
    assert clear(state) > 0 and clear(state) == 0
    assert sorted(path.name for path in state.iterdir()) == ["run", "split-key@north"]


def test_a_simulated_site_keeps_nothing(data: Path) -> None:
    config = run_config({"data.source": "folder", "data.image-size": 8, "data.class-names": "a,b"})
    options = NodeConfig.from_flat({"partition-id": 0, "num-partitions": 2})
    site = options.model_copy(update={"data_path": str(data), "site": "north", "tell_class_names": True})
    before = set(Path.cwd().iterdir())
    assert len(load_local(config, site).train) > 0 and hospital_info(config, site).num_channels == 1
    assert set(Path.cwd().iterdir()) == before
