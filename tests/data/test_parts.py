"""Which images are trained on, held out and tested on: for own images and public sets, in a simulation and outside."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fl_app.data.folder import read_parts
from fl_app.data.images import DatasetInfo, ImageSet
from fl_app.data.listing import PARTS
from fl_app.data.partition import choose_part, hash_position
from fl_app.node.images import LocalData, as_simulated, load_local, load_pooled
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue
from tests.data.conftest import write_images
from tests.data.dicoms import write_dicom
from tests.options import NO_MINIMUMS, run_config, write_simulated_key

NOTHING = torch.zeros(0, dtype=torch.uint8)
SHARED: dict[str, OptionValue] = {
    "tasks": "classification", "data.source": "folder", "data.class-names": "a,b", "data.num-channels": 1,
}  # fmt: skip


def of_folder(directory: Path | str = "", **changes: OptionValue) -> RunConfig:
    named = {f"data.{name.replace('_', '-')}": value for name, value in changes.items() if "." not in name}
    dotted = {name: value for name, value in changes.items() if "." in name}
    return run_config({**SHARED, "data.image-size": 6, "data.directory": str(directory), **named, **dotted})


def hospital(folder: Path, **changes: OptionValue) -> NodeConfig:
    named = {name.replace("_", "-"): value for name, value in changes.items()}
    return NodeConfig.from_flat(NO_MINIMUMS | {"data-path": str(folder), "site": "north"} | named)


def nodes(config: RunConfig, count: int = 3) -> list[LocalData]:
    options = [NodeConfig.from_flat({"partition-id": number, "num-partitions": count}) for number in range(count)]
    return [load_local(config, node) for node in options]


def rows(images: ImageSet) -> list[bytes]:
    return [image.numpy().tobytes() for image in images.images]


def sets(data: LocalData) -> tuple[set[bytes], set[bytes], set[bytes]]:
    return set(rows(data.train)), set(rows(data.validation)), set(rows(data.test))


def write_npz(folder: Path, **counts: int) -> Path:
    """Write an npz of random grey images of 6 x 6 pixels, so many in each part."""
    generator, arrays = np.random.default_rng(1), {}
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in counts.items():
        arrays[f"{part}_images"] = generator.integers(0, 256, (count, 6, 6), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(count, dtype=np.uint8)[:, None] % 2
    np.savez(folder / "images.npz", allow_pickle=False, **arrays)
    return folder


def stored(folder: Path, part: str) -> set[bytes]:
    with np.load(folder / "images.npz") as arrays:
        return {image.tobytes() for image in arrays[f"{part}_images"]}


@pytest.mark.parametrize("scheme", ["iid", "dirichlet", "shard"])
def test_the_parts_of_an_npz_are_kept_in_a_simulation(tmp_path: Path, scheme: str) -> None:
    folder = write_npz(tmp_path, train=60, val=20, test=30)
    found = nodes(of_folder(folder, **{"partition.scheme": scheme}))
    for part, name in zip(PARTS, ("train", "val", "test"), strict=True):
        together = [row for node in found for row in rows(getattr(node, part))]
        assert len(together) == len(set(together)) and set(together) == stored(folder, name)


def test_a_part_of_held_out_images_takes_the_place_of_the_validation_share(tmp_path: Path) -> None:
    folder = write_npz(tmp_path, train=60, val=20, test=30)
    for share in (0.0, 0.5):
        found = nodes(of_folder(folder, validation_share=share))
        assert sum(len(node.train) for node in found) == 60 and sum(len(node.validation) for node in found) == 20


def test_held_out_images_of_a_node_are_skewed_as_its_training_images_are(tmp_path: Path) -> None:
    folder = write_npz(tmp_path, train=300, val=300, test=10)
    shards: dict[str, OptionValue] = {"partition.scheme": "shard", "partition.shards-per-node": 1}
    found = nodes(of_folder(folder, **shards), 2)
    shares = [[float(part.labels.float().mean()) for part in (node.train, node.validation)] for node in found]
    assert sorted(shares) == [[0.0, 0.0], [1.0, 1.0]]


def test_a_hospital_and_a_simulation_of_one_read_the_same_parts(tmp_path: Path) -> None:
    folder = write_npz(tmp_path, train=40, val=10, test=12)
    (alone,) = nodes(of_folder(folder), 1)
    assert sets(alone) == sets(load_local(of_folder(), hospital(folder)))


@pytest.mark.parametrize("size", [28, 14])
@pytest.mark.parametrize("limit", [0, 100])
def test_a_public_set_and_a_folder_with_its_npz_are_the_same_images_node_by_node(
    real_data: Path, tmp_path: Path, size: int, limit: int
) -> None:
    shutil.copy(real_data / "medmnist" / "breastmnist.npz", tmp_path)
    options: dict[str, OptionValue] = {"data.image-size": size, "data.limit": limit}
    public = run_config(
        {**options, "tasks": "classification", "data.source": "breastmnist", "data.directory": str(real_data)}
    )
    own = run_config({**SHARED, **options, "data.directory": str(tmp_path)})
    for here, there in zip(nodes(public, 5), nodes(own, 5), strict=True):
        for part in PARTS:
            one, other = getattr(here, part), getattr(there, part)
            assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
    sizes = [sum(len(getattr(node, part)) for node in nodes(public, 5)) for part in PARTS]
    assert sizes == ([100, 14, 156] if limit else [546, 78, 156])


def test_a_limit_leaves_the_test_part_whole_and_the_same_share_of_the_held_out_images(tmp_path: Path) -> None:
    folder = write_npz(tmp_path, train=60, val=20, test=30)
    data = load_pooled(of_folder(folder, limit=30), one_of_two())
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 10, 30)


def one_of_two() -> NodeConfig:
    return NodeConfig.from_flat({"partition-id": 0, "num-partitions": 2})


def write_pngs(folder: Path, count: int, first: int = 0) -> Path:
    """Write images of which number n is the same whatever else is written."""
    for number in range(first, first + count):
        (folder / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (6, 6), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "ab"[number % 2] / f"{number}.png")
    return folder


def test_a_folder_without_a_test_part_gets_one_and_nothing_is_lost_or_on_two_sides(tmp_path: Path) -> None:
    write_pngs(tmp_path, 200)
    here = load_local(of_folder(), hospital(tmp_path))
    train, validation, test = sets(here)
    assert here.test_from == "drawn" and 20 <= len(test) <= 60
    assert not train & test and not validation & test and not train & validation
    assert len(train | validation | test) == 200


def test_a_folder_that_grows_keeps_its_test_part(tmp_path: Path) -> None:
    config = of_folder()
    before = set(rows(load_local(config, hospital(write_pngs(tmp_path, 80))).test))
    later = load_local(config, hospital(write_pngs(tmp_path, 420, first=80)))
    old = {picture(tmp_path, number) for number in range(80)}
    assert before and set(rows(later.test)) & old == before
    assert len(later.test) > len(before)


def picture(folder: Path, number: int) -> bytes:
    with Image.open(folder / "ab"[number % 2] / f"{number}.png") as image:
        return np.array(image).tobytes()


def test_names_of_files_do_not_matter_and_copies_of_a_file_stay_together(tmp_path: Path) -> None:
    write_pngs(tmp_path / "one", 60)
    write_pngs(tmp_path / "other", 60)
    for number, path in enumerate(sorted((tmp_path / "other").rglob("*.png"))):
        shutil.copy(path, path.with_name(f"copy-{number}.png"))
    config = of_folder()
    one, other = (load_local(config, hospital(tmp_path / name)) for name in ("one", "other"))
    assert sets(other)[2] == sets(one)[2] and len(other.test) == 2 * len(one.test) > 0
    assert not sets(other)[2] & (sets(other)[0] | sets(other)[1])


def test_neither_seed_nor_size_nor_channels_of_a_run_change_which_files_are_tested_on(tmp_path: Path) -> None:
    """The images come in the order of the files, so that labels of 200 files tell which ones were taken."""
    write_images(tmp_path, dict.fromkeys(map(str, range(50)), 4), mode="RGB")
    names = ",".join(map(str, range(50)))
    found = []
    changes: list[dict[str, OptionValue]] = [
        {}, {"seed": 7}, {"data.image-size": 3}, {"data.num-channels": 3}, {"data.limit": 20},
        {"data.validation-share": 0.5},
    ]  # fmt: skip
    for change in changes:
        config = run_config({**SHARED, "data.image-size": 6, "data.class-names": names, **change})
        found.append(load_local(config, hospital(tmp_path)).test.class_counts().tolist())
    assert sum(found[0]) > 0 and all(counts == found[0] for counts in found)


def test_without_a_share_there_is_no_test_set(tmp_path: Path) -> None:
    write_pngs(tmp_path, 40)
    here = load_local(of_folder(), hospital(tmp_path, test_share=0.0))
    assert len(here.test) == 0 and len(here.train) + len(here.validation) == 40


def test_the_images_of_a_patient_are_never_on_two_sides(tmp_path: Path) -> None:
    write_images(tmp_path, {"files": 120})
    lines = [f"files/patient-{number}.png,{'ab'[number % 2]},anna-{number // 3}" for number in range(120)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label,patient", *lines]))
    for data in (load_local(of_folder(), hospital(tmp_path)), *nodes(of_folder(tmp_path))):
        patients = [set(part.patients.tolist()) for part in (data.train, data.validation, data.test)]  # type: ignore[union-attr]
        assert len(data.test) > 0 and not any(patients[i] & patients[j] for i, j in ((0, 1), (0, 2), (1, 2)))
    shares = [set(node.test.patients.tolist()) for node in nodes(of_folder(tmp_path))]  # type: ignore[union-attr]
    assert len(set.union(*shares)) == sum(map(len, shares))  # no patient's images are measured at two nodes


def test_all_frames_of_a_file_without_a_patient_are_on_one_side(tmp_path: Path) -> None:
    for number in range(20):
        pixels = np.random.default_rng(number).integers(0, 256, (3, 4, 4), dtype=np.uint8)
        write_dicom(tmp_path / "a" / f"{number}.dcm", pixels, PatientID="")
    here = load_local(of_folder(), hospital(tmp_path))
    assert len(here.test) > 0 and all(len(part) % 3 == 0 for part in (here.train, here.validation, here.test))


@pytest.mark.parametrize("share", [0.2, 0.99])
def test_something_is_always_left_to_train_on(tmp_path: Path, share: float) -> None:
    for count in (1, 2, 3):
        folder = write_npz(tmp_path / str(count), train=count)
        here = load_local(of_folder(), hospital(folder, test_share=share))
        assert len(here.train) > 0 and len(here.train) + len(here.validation) + len(here.test) == count


def test_where_all_would_be_tested_on_none_is_and_the_node_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert (
        choose_part([hash_position(NOTHING, "x")], 0.999999, "test") == [False]
        and "into the part 'test', so it is empty" in caplog.text
    )


@given(st.lists(st.text(max_size=8), unique=True, min_size=1), st.floats(0.0, 0.9), st.floats(0.0, 0.9))
def test_a_larger_share_only_adds_to_the_test_part(names: list[str], one: float, other: float) -> None:
    positions = [hash_position(NOTHING, name) for name in names]
    few, many = (choose_part(positions, share, "test") for share in sorted((one, other)))
    assert all(not small or large for small, large in zip(few, many, strict=True)) or not any(many)


def test_the_share_is_that_of_many_patients() -> None:
    chosen = choose_part([hash_position(NOTHING, str(number)) for number in range(20_000)], 0.2, "test")
    assert abs(sum(chosen) / 20_000 - 0.2) < 0.01


@pytest.mark.parametrize("form", ["npz", "class folders"])
def test_in_a_simulation_the_test_part_is_taken_out_once_and_shared(tmp_path: Path, form: str) -> None:
    folder = write_npz(tmp_path, train=100) if form == "npz" else write_pngs(tmp_path, 100)
    whole = set(rows(read_parts(folder, DatasetInfo(("a", "b"), 1, 6), PARTS, test_share=0.2).parts["test"]))
    for count in (1, 4):
        found = nodes(of_folder(folder), count)
        tested = [row for node in found for row in rows(node.test)]
        assert len(tested) == len(set(tested)) and set(tested) == whole
        assert all(node.test_from == "share" for node in found)


def test_each_simulated_site_has_the_test_part_of_its_hospital(tmp_path: Path) -> None:
    for number, name in enumerate(("north", "south")):
        write_pngs(tmp_path / name, 40, first=100 * number)
    config = of_folder(tmp_path, **{"partition.scheme": "sites"})
    pooled = load_pooled(config, one_of_two())
    expected: list[bytes] = []
    for number, name in enumerate(("north", "south")):
        node = NodeConfig.from_flat({"partition-id": number, "num-partitions": 2})
        here = load_local(config, as_simulated(config, node))
        state = write_simulated_key(tmp_path.parent / f"{tmp_path.name}-state", name)
        there = load_local(of_folder(), hospital(tmp_path / name, site=name, state_dir=str(state)))
        assert here.test_from == there.test_from == "drawn" and rows(here.test) == rows(there.test) != []
        expected += rows(here.test)
    assert rows(pooled.test) == expected
