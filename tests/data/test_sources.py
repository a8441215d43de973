"""The two functions that everybody calls."""

from pathlib import Path

import pytest
import torch

from fl_app.data import digits
from fl_app.data.images import DatasetInfo
from fl_app.data.sources import dataset_info, load_split
from fl_app.errors import OptionError
from fl_app.options.images import DataOptions
from fl_app.options.sections import OptionValue
from fl_app.plugins import built_in
from tests.data.conftest import write_images
from tests.options import run_config


def _options(**changes: OptionValue) -> DataOptions:
    return run_config({f"data.{name.replace('_', '-')}": value for name, value in changes.items()}).data


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("digits", (10, 1, 8)),
        ("mnist", (10, 1, 28)),
        ("fashion-mnist", (10, 1, 28)),
        ("breastmnist", (2, 1, 28)),
        ("pathmnist", (9, 3, 28)),
    ],
)
def test_classes_channels_and_size_are_known_without_reading_an_image(
    source: str, expected: tuple[int, int, int]
) -> None:
    info = dataset_info(_options(source=source))
    assert (len(info.class_names), info.num_channels, info.image_size) == expected


def test_info_gives_the_size_after_resizing() -> None:
    assert dataset_info(_options(source="digits", image_size=16)).image_size == 16


def test_the_info_of_a_folder_is_what_the_options_say() -> None:
    options = _options(source="folder", class_names="a,b", num_channels=3, image_size=32)
    assert dataset_info(options) == DatasetInfo(("a", "b"), 3, 32)


@pytest.mark.parametrize("size", [0, 5, 16])
def test_images_are_as_info_announces_them(size: int) -> None:
    options = _options(source="digits", image_size=size)
    info, images = dataset_info(options), load_split(options, "test", 0)
    assert images.images.shape[1:] == (info.num_channels, info.image_size, info.image_size)
    assert images.class_names == info.class_names


@pytest.mark.parametrize("limit", [1, 10, 101])
def test_exactly_limit_images_come_with_the_same_share_of_each_class(limit: int) -> None:
    images = load_split(_options(source="digits", limit=limit), "train", 0)
    shares = load_split(_options(source="digits"), "train", 0).class_counts() * limit / 1438
    assert len(images) == limit
    assert ((images.class_counts() - shares).abs() < 1).all()


@pytest.mark.parametrize("limit", [0, 1438, 5000])
def test_no_limit_or_a_large_one_gives_all(limit: int) -> None:
    images = load_split(_options(source="digits", limit=limit), "train", 0)
    assert torch.equal(images.images, digits.load(_options(), "train").images)


def test_a_limit_does_not_touch_the_test_part() -> None:
    assert len(load_split(_options(source="digits", limit=10), "test", 0)) == 359


def test_the_same_seed_takes_the_same_images_and_another_seed_others() -> None:
    first, again, other = (load_split(_options(source="digits", limit=50), "train", seed).images for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_seed_does_not_change_the_parts() -> None:
    first, other = (load_split(_options(source="digits"), "test", seed).images for seed in (1, 2))
    assert torch.equal(first, other)


def test_a_folder_is_read_like_the_other_sources(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 3, "b": 5})
    options = _options(
        source="folder", directory=str(tmp_path), class_names="a,b", num_channels=1, image_size=8, limit=4
    )
    assert load_split(options, "train", 0).class_counts().sum() == 4


@pytest.mark.parametrize(
    ("name", "close"), [("brestmnist", "breastmnist"), ("Digits", "digits"), ("fashionmnist", "fashion-mnist")]
)
def test_an_unknown_source_is_refused_with_the_closest_name(name: str, close: str) -> None:
    with pytest.raises(OptionError, match=rf"got '{name}'\. Did you mean '{close}'\?"):
        dataset_info(_options(source=name))


def test_an_empty_name_is_refused_too() -> None:
    with pytest.raises(OptionError, match=", ".join(built_in("sources"))):
        dataset_info(_options(source=""))


def test_an_unfit_flag_is_refused_before_anything_is_read() -> None:
    with pytest.raises(OptionError, match="several labels each"):
        load_split(_options(source="chestmnist"), "train", 0)
