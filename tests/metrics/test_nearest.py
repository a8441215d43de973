"""Near copies and ratios of distances: laws, and numbers worked by hand."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from fl_app.metrics.nearest import (
    NUM_BINS,
    blank_copies,
    copy_sums,
    neighbours,
    num_neighbours,
    ratio_values,
)
from fl_app.sums import add

Array = NDArray[np.float64]


def cloud(seed: int, number: int, size: int = 20) -> Array:
    return np.random.default_rng(seed).normal(size=(number, size))


def test_a_training_image_is_a_copy_of_itself_and_an_independent_one_is_none() -> None:
    train = cloud(0, 200)
    found = neighbours(np.concatenate([train[[7, 150]], cloud(1, 50)]), train)
    assert found.is_copy()[:2].all() and list(found.nearest[:2]) == [7, 150]
    assert not found.is_copy()[2:].any()


def test_a_copy_is_nearer_than_a_share_of_the_mean_distance_of_the_neighbours() -> None:
    train = np.array([[0.0], [1.0], [2.0], [3.0]] * 2 + [[100.0]])  # 9 images: the 2 nearest count
    assert num_neighbours(len(train)) == 2
    found = neighbours(np.array([[0.0], [0.4], [50.0]]), train)
    assert found.ratio == pytest.approx([0.0, 1.0, 1.0])  # 0 of a mean of 0; equal images; (47, 47)
    train = np.array([[0.0], [8.0], *[[20.0]] * 6])
    for place, is_copy in ((0.0, True), (1.19, True), (1.21, False)):  # x / ((x + 8 - x) / 2) = x / 4 is 0.3 at 1.2
        found = neighbours(np.array([[place]]), train)
        assert found.ratio[0] == pytest.approx(place / 4.0) and found.is_copy()[0] == is_copy


@pytest.mark.parametrize(("images", "expected"), [(1, 1), (3, 1), (20, 5), (199, 49), (200, 50), (60_000, 50)])
def test_few_images_have_few_neighbours(images: int, expected: int) -> None:
    assert num_neighbours(images) == expected


def test_the_sums_do_not_depend_on_the_order_of_any_set() -> None:
    sets = [cloud(0, 40), cloud(1, 60), cloud(2, 13)]
    shuffled = [np.random.default_rng(9).permutation(one) for one in sets]
    one, other = copy_sums(*sets), copy_sums(*shuffled)
    for key in one:
        np.testing.assert_allclose(one[key], other[key], rtol=1e-9, err_msg=key)


def test_the_sums_of_the_generated_images_are_those_of_their_parts() -> None:
    generated, train, held_out = cloud(0, 40), cloud(1, 60), cloud(2, 13)
    whole = copy_sums(generated, train, held_out)
    parts = add([copy_sums(part, train, held_out) for part in (generated[:11], generated[11:])])
    np.testing.assert_allclose(whole["counts"][:2], parts["counts"][:2])
    np.testing.assert_allclose(whole["histogram"], parts["histogram"])
    np.testing.assert_allclose(whole["ratio"][:5], parts["ratio"][:5])


def test_blocks_in_memory_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = cloud(0, 40), cloud(1, 60), cloud(2, 13)
    whole = copy_sums(*sets)
    monkeypatch.setattr("fl_app.metrics.nearest._BLOCK", 130)
    for key, value in copy_sums(*sets).items():
        np.testing.assert_allclose(value, whole[key], rtol=1e-12, err_msg=key)


def test_all_sets_of_training_images_count_as_if_each_were_looked_at() -> None:
    generated, train, held_out = cloud(0, 3, 4), cloud(1, 7, 4), cloud(2, 3, 4)
    found = ratio_values(generated, train, held_out)
    for one, log, nearer in zip(generated, found["log"], found["nearer"], strict=True):
        to_train, to_held_out = (np.linalg.norm(images - one, axis=1) for images in (train, held_out))
        firsts = [min(to_train[list(some)]) for some in itertools.combinations(range(7), 3)]
        assert log == pytest.approx(np.mean(np.log(firsts)) - np.log(to_held_out.min()))
        assert nearer == pytest.approx(np.mean(firsts < to_held_out.min()))


def test_training_and_held_out_images_may_change_places() -> None:
    generated, one, other = cloud(0, 9), cloud(1, 12), cloud(2, 5)
    found, swapped = ratio_values(generated, one, other), ratio_values(generated, other, one)
    np.testing.assert_allclose(found["log"], -swapped["log"])
    np.testing.assert_allclose(found["nearer"], 1.0 - swapped["nearer"])


@pytest.mark.parametrize("sizes", [(260, 29), (40, 40), (30, 90)])
def test_images_of_one_kind_are_as_near_to_both(sizes: tuple[int, int]) -> None:
    logs, nearer = [], []
    for seed in range(60):
        found = ratio_values(cloud(3 * seed, 20, 6), cloud(3 * seed + 1, sizes[0], 6), cloud(3 * seed + 2, sizes[1], 6))
        logs.append(found["log"].mean())
        nearer.append(found["nearer"].mean())
    for values, expected in ((logs, 0.0), (nearer, 0.5)):
        error = np.std(values) / np.sqrt(len(values))
        assert abs(np.mean(values) - expected) < 4 * error


def test_a_drawn_training_image_is_nearer_to_training_images() -> None:
    train, held_out = cloud(1, 40), cloud(2, 40)
    found = copy_sums(train[:10], train, held_out)
    assert list(found["counts"]) == [10.0, 10.0, 40.0, 0.0]
    assert found["ratio"][3] == 10.0 and found["histogram"][0] == 10.0
    assert np.isfinite(found["ratio"]).all()


def test_without_held_out_images_copies_are_counted_and_no_ratio() -> None:
    train = cloud(1, 40)
    found = copy_sums(train[:10], train, train[:0])
    assert list(found["counts"]) == [10.0, 10.0, 0.0, 0.0]
    assert not found["ratio"].any() and not found["histogram"].any()


@pytest.mark.parametrize("sizes", [(0, 9, 9), (9, 0, 9), (0, 0, 0)])
def test_without_generated_or_training_images_all_is_0(sizes: tuple[int, int, int]) -> None:
    found = copy_sums(*(cloud(seed, number) for seed, number in enumerate(sizes)))
    assert not any(value.any() for value in found.values())
    assert {key.rpartition("/")[2] for key in blank_copies()} == {"drawn", *found}
    assert len(found["histogram"]) == NUM_BINS


def test_constant_features_make_generated_and_held_out_images_alike() -> None:
    one = np.ones((8, 3))
    found = copy_sums(one, np.ones((12, 3)), np.ones((5, 3)))
    assert list(found["counts"]) == [8.0, 8.0, 5.0, 5.0]
    assert found["ratio"][1] == pytest.approx(0.0, abs=1e-9) and found["ratio"][3] == pytest.approx(4.0)
