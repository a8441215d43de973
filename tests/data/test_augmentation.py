"""Laws of the random changes to training images."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fl_app.data.loading import AUGMENTATIONS, augment


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 64, channels: int = 1, height: int = 16, width: int = 16) -> Tensor:
    return torch.randn(count, channels, height, width, generator=draws(1))


def shifted(image: Tensor, down: int, right: int) -> Tensor:
    """[C, 16, 16] moved by up to 2 pixels along both axes, the edge repeated: cut out of a padded image."""
    padded = functional.pad(image, (2, 2, 2, 2), mode="replicate")
    return padded[:, 2 - down : 18 - down, 2 - right : 18 - right]


def test_no_names_leave_the_images() -> None:
    images = pictures()
    assert augment(images, (), draws()) is images


@pytest.mark.parametrize("names", [("flip",), ("shift",), AUGMENTATIONS])
def test_the_same_seed_changes_alike_and_another_does_not(names: tuple[str, ...]) -> None:
    images = pictures()
    assert torch.equal(augment(images, names, draws()), augment(images, names, draws()))
    assert not torch.equal(augment(images, names, draws()), augment(images, names, draws(2)))


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("count", [0, 1])
def test_shape_and_type_stay(name: str, count: int) -> None:
    changed = augment(pictures(count, 3, 9, 8), (name,), draws())
    assert changed.shape == (count, 3, 9, 8)
    assert changed.dtype == torch.float32


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_images_given_stay_as_they_were(name: str) -> None:
    images = pictures()
    augment(images, (name,), draws())
    assert torch.equal(images, pictures())


def test_about_half_of_the_images_are_mirrored_and_the_others_stay() -> None:
    images = pictures(1000)
    changed = augment(images, ("flip",), draws())
    is_mirrored = (changed == images.flip(-1)).flatten(1).all(dim=1)
    is_same = (changed == images).flatten(1).all(dim=1)
    assert (is_mirrored ^ is_same).all()
    assert 400 < int(is_mirrored.sum()) < 600


def test_every_shift_is_one_of_whole_pixels_up_to_an_eighth_of_the_side() -> None:
    images = pictures(40, 2)
    steps = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]
    for image, moved in zip(images, augment(images, ("shift",), draws()), strict=True):
        assert sum(torch.equal(moved, shifted(image, *step)) for step in steps) == 1


def test_shifts_reach_both_ends_along_both_axes() -> None:
    height, width = 16, 24  # 2 and 3 pixels at most
    ramp = (torch.arange(height)[:, None] * 100.0 + torch.arange(width)).expand(500, 1, height, width)
    middle = augment(ramp, ("shift",), draws())[:, 0, 8, 12]
    down, right = 8 - (middle / 100).floor(), 12 - middle % 100
    assert set(down.int().tolist()) == set(range(-2, 3))
    assert set(right.int().tolist()) == set(range(-3, 4))


def test_images_below_8_pixels_are_not_shifted() -> None:
    images = pictures(8, 1, 7, 7)
    assert torch.equal(augment(images, ("shift",), draws()), images)


def test_augmentations_follow_each_other_in_the_order_of_the_names() -> None:
    images, generator = pictures(), draws()
    step_by_step = augment(augment(images, ("flip",), generator), ("shift",), generator)
    assert torch.equal(augment(images, ("flip", "shift"), draws()), step_by_step)
