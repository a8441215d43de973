"""Laws of the Fréchet distance over sums of features."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.features import feature_moments, frechet_distance
from fl_app.sums import add

NUM_FEATURES = 4
laws = settings(max_examples=50, deadline=None)


def features(seed: int, count: int = 40, scale: float = 1.0) -> NDArray[np.float64]:
    return scale * np.random.default_rng(seed).standard_normal((count, NUM_FEATURES))


seeds = st.integers(0, 2**32 - 1)


@laws
@given(seeds)
def test_a_set_has_no_distance_to_itself(seed: int) -> None:
    moments = feature_moments(features(seed))
    assert frechet_distance(moments, moments) == pytest.approx(0.0, abs=1e-6)


@laws
@given(seeds, st.floats(-100.0, 100.0))
def test_moving_every_feature_costs_the_squared_length_of_the_move(seed: int, step: float) -> None:
    f = features(seed)
    move = np.array([step, 0.0, -2.0 * step, 0.5])
    distance = frechet_distance(feature_moments(f), feature_moments(f + move))
    assert distance == pytest.approx(float((move**2).sum()), rel=1e-6, abs=1e-6)


@laws
@given(seeds, st.floats(0.1, 10.0))
def test_scaling_about_the_mean_costs_the_variances_times_the_squared_change(seed: int, scale: float) -> None:
    f = features(seed)
    f -= f.mean(axis=0)
    distance = frechet_distance(feature_moments(f), feature_moments(scale * f))
    assert distance == pytest.approx((scale - 1.0) ** 2 * float(f.var(axis=0, ddof=1).sum()), rel=1e-6, abs=1e-6)


@laws
@given(seeds, seeds)
def test_the_distance_is_the_same_from_both_sides(one: int, other: int) -> None:
    a, b = feature_moments(features(one)), feature_moments(features(other, count=25, scale=3.0))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9, abs=1e-9)


@laws
@given(seeds, st.lists(st.integers(0, 40), max_size=5))
def test_moments_of_parts_add_up_to_those_of_the_whole(seed: int, cuts: list[int]) -> None:
    f = features(seed)
    total = add(feature_moments(part) for part in np.split(f, sorted(cuts)))
    whole = feature_moments(f)
    assert total["count"] == whole["count"]
    np.testing.assert_allclose(total["sum"], whole["sum"], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(total["outer"], whole["outer"], rtol=1e-12, atol=1e-12)


@laws
@given(seeds, st.integers(1, 39))
def test_the_federated_distance_is_the_pooled_one(seed: int, cut: int) -> None:
    real, generated = features(seed), feature_moments(features(seed + 1, scale=2.0))
    pooled = frechet_distance(feature_moments(real), generated)
    federated = frechet_distance(add([feature_moments(real[:cut]), feature_moments(real[cut:])]), generated)
    assert federated == pytest.approx(pooled, rel=1e-9)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_images_on_either_side_have_no_distance(count: int) -> None:
    few, many = feature_moments(features(0, count)), feature_moments(features(1))
    assert frechet_distance(few, many) is None
    assert frechet_distance(many, few) is None


def test_features_without_any_spread_keep_the_distance_of_their_means() -> None:
    zeros, ones = feature_moments(np.zeros((3, NUM_FEATURES))), feature_moments(np.ones((3, NUM_FEATURES)))
    assert frechet_distance(zeros, ones) == pytest.approx(NUM_FEATURES)


def test_the_distance_of_one_feature_is_that_of_two_normal_distributions() -> None:
    real, generated = np.array([[-1.0], [1.0]]), np.array([[0.0], [6.0]])  # means 0 and 3, deviations 2^.5 and 18^.5
    expected = 3.0**2 + (18.0**0.5 - 2.0**0.5) ** 2
    assert frechet_distance(feature_moments(real), feature_moments(generated)) == pytest.approx(expected)


def test_moments_of_float32_features_are_summed_in_float64() -> None:
    moments = feature_moments(np.full((10_000, 1), 0.1, dtype=np.float32))
    assert {value.dtype for value in moments.values()} == {np.dtype(np.float64)}
    assert moments["sum"][0] == pytest.approx(10_000 * float(np.float32(0.1)), rel=1e-12)
