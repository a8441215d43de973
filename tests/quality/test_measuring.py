"""A site's sums about generated images: they add up, and say nothing of few images."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fl_app.data.images import ImageSet
from fl_app.metrics.generation import feature_sums, frechet_distance
from fl_app.quality.measuring import blank_quality, evenly_chosen, groups_of, measure_quality, moments_of
from fl_app.sums import add
from tests.quality.sites import CLASSES, NEIGHBOURS, Array, D, K, make_images, plain, sums_of


def joined(sets: list[ImageSet]) -> ImageSet:
    return ImageSet(torch.cat([one.images for one in sets]), torch.cat([one.labels for one in sets]), CLASSES)


@pytest.mark.parametrize("label", [None, 0, 1, 2])
def test_the_frechet_distance_of_added_sums_is_that_of_all_images_in_one_place(label: int | None) -> None:
    counts = [(40, 3, 1), (2, 60, 5), (10, 10, 90)]
    total = add(sums_of(seed, count) for seed, count in enumerate(counts))
    real, generated = joined([make_images(seed, count) for seed, count in enumerate(counts)]), make_images(77)
    pooled = feature_sums(plain(real), real.labels.numpy(), K + 1)
    other = feature_sums(plain(generated), generated.labels.numpy(), K + 1)
    expected = frechet_distance(pooled, other, label)
    assert expected is not None and expected > 0
    if label is None:  # small classes of a site are in no class of their own
        assert frechet_distance(moments_of(total, "moments"), other) == pytest.approx(expected, rel=1e-9)
    held = moments_of(total, "moments")["count"]
    assert held.sum() == len(real)


def test_sums_of_zero_images_have_the_same_keys_and_shapes_and_are_zero() -> None:
    found, blank = sums_of(0, (0, 0, 0)), blank_quality(D, K)
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in blank.items()}
    assert not any(value.any() for key, value in found.items() if "num-generated" not in key)
    full = sums_of(0)
    assert {key: value.shape for key, value in full.items()} == {key: value.shape for key, value in blank.items()}


def test_a_hospital_sends_moments_of_at_least_two_images_a_feature_and_of_no_fewer() -> None:
    enough, too_few = (2 * D, 2 * D, 2 * D), (2 * D - 1, 0, 0)
    assert moments_of(sums_of(0, enough, per_feature=2), "moments")["count"].tolist() == [*enough, 0]
    found = sums_of(0, too_few, per_feature=2)
    assert not any(found[key].any() for key in found if "moments" in key)
    assert found["generated/neighbours"].any()  # numbers of pairs still leave


def test_a_class_with_few_images_is_summed_with_the_smallest_other_one() -> None:
    found = moments_of(sums_of(0, (3 * D, 2 * D, 1), per_feature=2), "moments")
    assert found["count"].tolist() == [3 * D, 0, 0, 2 * D + 1]  # the class of one image cannot be had by subtraction


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(2, 20))
def test_no_group_of_classes_and_no_difference_of_groups_has_few_images(counts: list[int], fewest: int) -> None:
    groups = groups_of(np.array(counts), fewest)
    if groups is None:
        assert sum(counts) < fewest
        return
    sizes = np.bincount(groups, weights=counts, minlength=len(counts) + 1)
    assert sizes.sum() == sum(counts)
    assert all(size == 0 or size >= fewest for size in sizes)


def test_the_floor_compares_equally_many_training_and_test_images_of_each_class() -> None:
    train, real = make_images(5, (90, 10, 0)), make_images(1, (20, 20, 20))
    sums = measure_quality(plain, real, train, make_images(77), NEIGHBOURS)
    assert sums["floor/kernel-num-real"] == sums["floor/kernel-num-generated"] == 30  # 20 of a, 10 of b, none of c
    assert sums["floor-moments/count"].tolist() == [90, 10, 0, 0]
    # classes that are rarer in training than in the test make no distance
    assert abs(float(sums["floor/kernel-real"][0] - sums["floor/kernel-cross"][0])) < 0.1


def test_a_share_of_the_images_is_spread_over_the_classes() -> None:
    train = make_images(5, (90, 60, 30))
    assert evenly_chosen(train, 1 / 3).class_counts().tolist() == pytest.approx([30, 20, 10], abs=1)
    assert len(evenly_chosen(train, 1.0)) == 180 and len(evenly_chosen(make_images(5, (0, 0, 0)), 0.5)) == 0


def test_many_features_have_moments_of_all_classes_together() -> None:
    def many(images: ImageSet) -> Array:
        return np.repeat(plain(images), 30, axis=1)

    assert measure_quality(many, make_images(1), make_images(2), make_images(3), 3)["moments/count"].tolist() == [120]
    blank, found = blank_quality(30 * D, K), measure_quality(many, make_images(1), make_images(2), make_images(3), 3)
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in blank.items()}
