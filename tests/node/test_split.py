"""A hospital's own split: neither a run's options nor an image that comes or goes make two sets that differ little."""

import os
import stat
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fl_app.data.images import ImageSet
from fl_app.errors import DataError
from fl_app.node.images import load_local
from fl_app.node.split import FEWEST_CHANGES, derived_key, find_key, hold_out, may_use, settle
from fl_app.options.node import NodeConfig
from fl_app.options.sections import OptionValue
from tests.options import run_config

CLASSES = ("a", "b")


def image_set(files: dict[int, list[int]], patients: dict[int, int] | None = None) -> ImageSet:
    """Return a set with one image for each number; those of a class are listed by its label."""
    numbers = [number for found in files.values() for number in found]
    labels = [label for label, found in files.items() for _ in found]
    positions = [[(patients or {}).get(number, number) / 1000, number / 1000] for number in numbers]
    return ImageSet(
        torch.tensor(numbers, dtype=torch.int64).remainder(256).to(torch.uint8)[:, None, None, None],
        torch.tensor(labels, dtype=torch.int64),
        CLASSES,
        positions=torch.tensor(positions, dtype=torch.float64).reshape(-1, 2),
    )


def files_of(images: ImageSet) -> list[int]:
    assert images.positions is not None
    return sorted(round(1000 * number) for number in images.positions[:, 1].tolist())


def settled(path: Path, **files: list[int]) -> list[int]:
    labelled = {CLASSES.index(name): numbers for name, numbers in files.items()}
    return files_of(settle({"train": image_set(labelled)}, path)["train"])


def test_added_images_wait_until_enough_have_come(tmp_path: Path) -> None:
    path, old = tmp_path / "used", list(range(30))
    assert settled(path, a=old) == old
    for count in (1, 6, FEWEST_CHANGES - 1):
        assert settled(path, a=list(range(30 + count))) == old
    assert settled(path, a=list(range(30 + FEWEST_CHANGES))) == list(range(30 + FEWEST_CHANGES))


def test_sets_are_compared_only_if_something_came_or_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, old = tmp_path / "used", list(range(30))
    settled(path, a=old)
    monkeypatch.setattr("fl_app.node.split.may_use", None)  # takes a second for 100,000 images
    assert settled(path, a=old) == old
    with pytest.raises(TypeError):
        settled(path, a=old[1:])


def test_a_removed_image_takes_others_of_its_class_with_it(tmp_path: Path) -> None:
    path = tmp_path / "used"
    settled(path, a=list(range(100)), b=list(range(200, 250)))
    left = settled(path, a=[number for number in range(100) if number != 7], b=list(range(200, 250)))
    assert len(left) == 100 - FEWEST_CHANGES + 50 and 7 not in left and set(range(200, 250)) <= set(left)
    assert settled(path, a=[number for number in range(100) if number != 7], b=list(range(200, 250))) == left


def test_a_small_class_that_loses_an_image_is_not_used_and_does_not_come_back_as_if_it_were_new(tmp_path: Path) -> None:
    path = tmp_path / "used"
    assert settled(path, a=list(range(10))) == list(range(10))
    assert settled(path, a=list(range(9))) == []
    assert settled(path, a=list(range(9))) == []
    assert settled(path, a=list(range(10))) == list(range(10))
    assert settled(path, a=list(range(1, 10)) + list(range(100, 100 + FEWEST_CHANGES))) != []


def test_a_class_that_is_called_by_another_name_is_still_known(tmp_path: Path) -> None:
    old, more = list(range(60)), list(range(61))
    assert settled(tmp_path / "used", a=old) == settled(tmp_path / "used", b=more) == settled(tmp_path / "used", b=more)


def test_two_small_classes_with_one_image_in_common_do_not_stand_for_each_other(tmp_path: Path) -> None:
    for _ in range(3):
        assert settled(tmp_path / "used", a=list(range(10)), b=list(range(9, 18))) == [*range(10), *range(9, 18)]


def test_a_class_counts_for_itself(tmp_path: Path) -> None:
    path = tmp_path / "used"
    settled(path, a=list(range(50)), b=[500, 501])
    found = settled(path, a=list(range(90)), b=[500, 501, 502])
    assert found == [*range(90), 500, 501]


def test_another_image_of_a_known_patient_is_a_change_of_that_patient(tmp_path: Path) -> None:
    patients = {number: number // 2 for number in range(60)}
    first = settle({"train": image_set({0: list(range(59))}, patients)}, tmp_path / "used")["train"]
    more = settle({"train": image_set({0: list(range(60))}, patients)}, tmp_path / "used")["train"]
    assert files_of(first) == files_of(more) == list(range(59))


def test_a_second_copy_of_an_image_waits_like_any_other(tmp_path: Path) -> None:
    assert settled(tmp_path / "used", a=list(range(30))) == settled(tmp_path / "used", a=[3, *range(30)])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sets(st.integers(0, 70), max_size=70), min_size=1, max_size=6))
def test_whatever_comes_and_goes_no_two_sets_that_were_used_differ_by_a_few(histories: list[set[int]]) -> None:
    used: list[Counter[tuple[float, ...]]] = []
    earlier: list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = []
    for numbers in histories:
        now = np.array([[number / 1000] * 2 for number in sorted(numbers)]).reshape(-1, 2)
        chosen = now[may_use(now, earlier)]
        found = Counter(map(tuple, chosen.tolist()))
        if found and found not in used:
            used.append(found)
            earlier.append(chosen)
    differences = [len((one - other) | (other - one)) for one in used for other in used if one is not other]
    assert all(count >= FEWEST_CHANGES for count in differences)


def test_the_memory_is_closed_to_others_and_damage_stops_the_node(tmp_path: Path) -> None:
    path = tmp_path / "state" / "used"
    settled(path, a=[1, 2])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.write_bytes(b"x")
    with pytest.raises(DataError, match="remembers the images") as caught:
        settled(path, a=[1, 2])
    assert str(tmp_path) not in caught.value.public


def test_a_key_is_made_once_for_the_nodes_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "key"
    trial = find_key(path, makes=False)
    assert find_key(path, makes=False) == trial and not path.parent.exists()
    key = find_key(path, makes=True)
    assert len(key) == 32 and key != trial and find_key(path, makes=True) == find_key(path, makes=False) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and os.listdir(path.parent) == ["key"]


@pytest.mark.parametrize("content", ["", "zz", "00ff", "ä"])
def test_a_damaged_key_stops_the_node_and_is_not_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(DataError, match="key") as caught:
        find_key(path, makes=True)
    assert path.read_text() == content and str(tmp_path) not in caught.value.public


def test_keys_of_a_simulation_differ_between_sites_and_seeds() -> None:
    assert len({derived_key(seed, site) for seed in (0, 1) for site in ("north", "south", "1 north")}) == 6


@given(st.floats(0.05, 0.5), st.floats(0.0, 0.4))
def test_held_out_images_are_the_share_of_what_the_test_part_left(share: float, tested: float) -> None:
    places = np.linspace(tested, 1.0, 500, endpoint=False)
    images = image_set({0: list(range(500))})
    images = ImageSet(
        images.images, images.labels, CLASSES, positions=torch.from_numpy(np.stack([places, places], axis=1))
    )
    train, held_out = hold_out(images, share, tested)
    assert len(train) + len(held_out) == 500 and abs(len(held_out) - 500 * share) <= 2


def write_folder(folder: Path, counts: dict[str, int]) -> Path:
    generator = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(generator.integers(0, 256, (6, 6), dtype=np.uint8)).save(folder / name / f"{number}.png")
    return folder


def hospital(folder: Path, state: Path, **options: OptionValue) -> NodeConfig:
    own: dict[str, OptionValue] = {"data-path": str(folder), "site": "north", "state-dir": str(state)}
    return NodeConfig.from_flat({**own, **{name.replace("_", "-"): value for name, value in options.items()}})


RUN: dict[str, OptionValue] = {
    "data.source": "folder", "data.class-names": "a,b", "data.num-channels": 1, "data.image-size": 8,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 5}, {"data.limit": 30}, {"data.validation-share": 0.5}, {"data.test-share": 0.0},
        {"partition.min-images": 1}, {"partition.min-class-count": 1}, {"data.image-size": 16},
    ],
)  # fmt: skip
def test_no_option_of_a_run_changes_which_images_lie_in_which_part(
    tmp_path: Path, change: dict[str, OptionValue]
) -> None:
    node = hospital(write_folder(tmp_path / "data", {"a": 60, "b": 60}), tmp_path / "state", min_held_out=1)
    one, other = (load_local(run_config({**RUN, **more}), node) for more in ({}, change))
    for part in ("train", "validation", "test"):
        ours, theirs = getattr(one, part), getattr(other, part)
        assert (
            len(ours) > 0 and torch.equal(ours.positions, theirs.positions) and torch.equal(ours.labels, theirs.labels)
        )


def test_two_hospitals_with_the_same_folder_split_it_differently(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", {"a": 60})
    found = [load_local(run_config(RUN), hospital(folder, tmp_path / name)).test for name in ("one", "other")]
    assert not torch.equal(found[0].images, found[1].images)


def test_a_look_at_the_images_leaves_nothing_behind(tmp_path: Path) -> None:
    node = hospital(write_folder(tmp_path / "data", {"a": 60}), tmp_path / "state", max_cache_megabytes=0)
    assert len(load_local(run_config(RUN), node, is_trial=True).train) > 0
    assert not (tmp_path / "state").exists()


def test_a_part_with_too_few_images_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_folder(tmp_path / "data", {"a": 60, "b": 60})
    data = load_local(run_config(RUN), hospital(folder, tmp_path / "state", min_held_out=1))
    assert data.too_few == () and min(len(data.train), len(data.validation), len(data.test)) >= 1
    strict: dict[str, OptionValue] = {"min_images": len(data.train) + 1, "min_held_out": len(data.validation) + 1}
    data = load_local(run_config(RUN), hospital(folder, tmp_path / "state", **strict))
    assert data.too_few[:2] == ("train", "validation") and len(data.train) == len(data.validation) == 0
    assert "by option 'min-images' it takes at least" in caplog.text


def test_a_hospital_of_a_hundred_images_takes_part_whatever_the_key(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", {"a": 50, "b": 50})
    for number in range(20):
        data = load_local(run_config(RUN), hospital(folder, tmp_path / str(number), max_cache_megabytes=0))
        assert len(data.train) >= 20 and min(data.train.class_counts().tolist()) >= 5


def test_a_simulated_node_has_the_minimums_that_the_run_states() -> None:
    node = NodeConfig.from_flat({"partition-id": 0, "num-partitions": 2})
    config: dict[str, OptionValue] = {"data.source": "digits", "data.limit": 100}
    assert load_local(run_config(config), node).too_few == ()
    assert load_local(run_config({**config, "partition.min-images": 100}), node).too_few == ("train",)
