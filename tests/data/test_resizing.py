"""Resizing: the same as torchvision, bytes stay bytes."""

import pytest
import torch
from torchvision.transforms.v2 import functional

from fl_app.data.loading import resize


@pytest.mark.parametrize(("shape", "size"), [((1, 28, 28), 32), ((3, 28, 28), 14), ((3, 20, 31), 8), ((1, 1, 1), 4)])
def test_resizing_gives_the_numbers_of_torchvision(shape: tuple[int, int, int], size: int) -> None:
    images = torch.randint(0, 256, (5, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(resize(images, size), functional.resize(images, [size, size], antialias=True))


def test_images_of_the_right_size_are_left_alone() -> None:
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    assert resize(images, 8) is images


def test_no_images_give_no_images_of_the_new_size() -> None:
    assert resize(torch.zeros(0, 3, 8, 8, dtype=torch.uint8), 4).shape == (0, 3, 4, 4)


def test_an_evenly_grey_image_stays_grey() -> None:
    assert set(resize(torch.full((1, 1, 9, 5), 77, dtype=torch.uint8), 16).flatten().tolist()) == {77}
