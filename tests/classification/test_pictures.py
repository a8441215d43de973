"""Brightness, contrast and roughness of pictures, and how strange they make one."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_app.classification.moments import (
    are_sums_of_pictures,
    picture_distances,
    picture_map,
    picture_numbers,
    picture_sums,
)
from tests.classification.models import make_images

STEP = (1 / 255) ** 2
laws = settings(max_examples=25, deadline=None)


def noise(count: int, size: int = 8, num_channels: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, num_channels, size, size), dtype=torch.uint8, generator=generator)


def test_the_numbers_are_those_worked_by_hand() -> None:
    image = torch.tensor([[0, 255], [0, 255]], dtype=torch.uint8)  # steps: 0 down, 1 to the right
    expected = [0.5, math.log(0.25 + STEP) / 2, math.log((0.5 + STEP) / (0.25 + STEP))]
    np.testing.assert_allclose(picture_numbers(image[None, None]), [expected], rtol=1e-12)


def test_a_constant_image_has_a_grey_level_of_contrast() -> None:
    image = torch.full((1, 3, 4, 4), 51, dtype=torch.uint8)
    np.testing.assert_allclose(picture_numbers(image), [[0.2, -math.log(255), 0.0]], rtol=1e-6, atol=1e-12)


def test_noise_has_a_roughness_of_two() -> None:
    np.testing.assert_allclose(np.exp(picture_numbers(noise(4, size=200))[:, 2]), 2.0, rtol=0.05)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 1, 1, 5), (0, 3, 8, 8), (257, 1, 8, 8)])
def test_images_of_every_size_and_number_have_finite_numbers(shape: tuple[int, ...]) -> None:
    numbers = picture_numbers(torch.arange(math.prod(shape)).reshape(shape).to(torch.uint8))
    assert numbers.shape == (shape[0], 3) and np.isfinite(numbers).all()


@laws
@given(st.lists(st.integers(0, 60), max_size=5))
def test_the_sums_of_any_split_add_up_to_those_of_all_images(cuts: list[int]) -> None:
    images = make_images((20, 20, 20), 0).images
    parts = [picture_sums(part) for part in torch.tensor_split(images, sorted(cuts))]
    np.testing.assert_allclose(np.sum(parts, axis=0), picture_sums(images), rtol=1e-12)


def test_distances_are_mahalanobiss() -> None:
    images, others = make_images((20, 20, 20), 0).images, noise(5)
    numbers, strange = picture_numbers(images), picture_numbers(others)
    difference = strange - numbers.mean(axis=0)
    inverse = np.linalg.inv(np.cov(numbers.T, bias=True) + STEP * np.eye(3))
    expected = np.sqrt(np.einsum("ni,ij,nj->n", difference, inverse, difference))
    np.testing.assert_allclose(picture_distances(picture_map(picture_sums(images)), others), expected, rtol=1e-8)


def test_images_that_are_all_alike_still_have_a_distance() -> None:
    one = make_images((1, 0, 0), 0).images
    mapped_by = picture_map(picture_sums(one.expand(9, 1, 8, 8)))
    assert picture_distances(mapped_by, one)[0] < 1e-3
    assert 10.0 < picture_distances(mapped_by, noise(1))[0] < np.inf


def test_without_training_images_every_picture_is_infinitely_far() -> None:
    assert picture_map(np.zeros((4, 4))) is None
    assert picture_distances(None, noise(3)).tolist() == [np.inf] * 3


@laws
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(1, 5), st.sampled_from([1, 3]), st.booleans())
def test_the_sums_of_any_images_are_sums_of_pictures(
    seed: int, count: int, size: int, num_channels: int, is_black_or_white: bool
) -> None:
    images = noise(count, size, num_channels, seed)
    if is_black_or_white:
        images = (images // 128) * 255
    assert are_sums_of_pictures(picture_sums(images), count)
    assert are_sums_of_pictures(picture_sums(images.flatten(2)[:, :, :1, None].expand_as(images)), count)  # constant


@pytest.mark.parametrize(
    ("position", "by"),
    [
        ((0, 0), 1.0),  # of another number of images
        ((1, 1), -5.0),  # squares smaller than the means allow
        ((2, 2), 1e9),  # a contrast that no image has
        ((3, 3), -1e9),
        ((0, 1), 1e3),  # brighter than white
        ((2, 3), 1e3),  # not symmetric
    ],
)
def test_sums_that_no_pictures_lead_to_are_told(position: tuple[int, int], by: float) -> None:
    sums = picture_sums(make_images((8, 8, 8), 0).images)
    assert are_sums_of_pictures(sums, 24)
    sums[position] += by
    assert not are_sums_of_pictures(sums, 24)
