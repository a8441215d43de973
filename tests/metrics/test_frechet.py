"""Laws of the Fréchet distance over sums of features, and numbers worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import linalg

from fl_app.metrics.generation import feature_sums, frechet_distance
from fl_app.sums import Sums, add

Array = NDArray[np.float64]

D, K = 4, 3
laws = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)
cuts = st.lists(st.integers(0, 40), max_size=5)


def features(seed: int, count: int = 40, scale: float = 1.0, width: int = D) -> Array:
    return scale * np.random.default_rng(seed).standard_normal((count, width))


def classes(count: int) -> NDArray[np.int64]:
    return np.arange(count, dtype=np.int64) % K


def summed(f: Array) -> Sums:
    return feature_sums(f, classes(len(f)), K)


def split_and_added(f: Array, at: list[int]) -> Sums:
    parts = zip(np.split(f, sorted(at)), np.split(classes(len(f)), sorted(at)), strict=True)
    return add(feature_sums(part, labels, K) for part, labels in parts)


def pooled_frechet(x: Array, g: Array) -> float:
    """The distance without any covariance matrix: the trace of the root is the nuclear norm of A B^T."""
    a, b = ((f - f.mean(axis=0)) / np.sqrt(len(f) - 1) for f in (x, g))
    cross = float(np.linalg.svd(a @ b.T, compute_uv=False).sum())
    return float(((x.mean(axis=0) - g.mean(axis=0)) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2.0 * cross)


@laws
@given(seeds, cuts)
def test_feature_sums_of_parts_add_up_to_those_of_the_whole(seed: int, at: list[int]) -> None:
    whole, total = summed(features(seed)), split_and_added(features(seed), at)
    assert np.array_equal(total["count"], whole["count"])
    for key in ("sum", "outer"):
        np.testing.assert_allclose(total[key], whole[key], rtol=1e-12, atol=1e-12)


@laws
@given(seeds, cuts)
def test_the_federated_distance_is_the_pooled_one(seed: int, at: list[int]) -> None:
    x, g = features(seed), features(seed + 1, 25, 2.0)
    assert frechet_distance(split_and_added(x, at), summed(g)) == pytest.approx(pooled_frechet(x, g), rel=1e-9)


@pytest.mark.parametrize(("count", "width"), [(2, 30), (12, 30), (31, 30), (40, 200)])
def test_fewer_images_than_features_cost_no_accuracy(count: int, width: int) -> None:
    x, g = 3.0 + features(1, count, width=width), 3.0 + features(2, 20, 1.2, width)
    parts = split_and_added(x, [1, count // 2])
    assert frechet_distance(parts, summed(g)) == pytest.approx(pooled_frechet(x, g), rel=1e-9)


@laws
@given(seeds)
def test_the_distance_of_a_class_is_that_of_its_images_alone(seed: int) -> None:
    x, g = features(seed), features(seed + 1, 25, 2.0)
    found = frechet_distance(summed(x), summed(g), label=1)
    assert found == pytest.approx(pooled_frechet(x[classes(40) == 1], g[classes(25) == 1]), rel=1e-9)


@laws
@given(seeds)
def test_the_distance_is_that_of_the_formula_with_a_matrix_square_root(seed: int) -> None:
    x, g = features(seed), features(seed + 1, 25, 2.0) + 0.3
    c = [np.cov(f, rowvar=False) for f in (x, g)]
    root = linalg.sqrtm(c[0] @ c[1]).real
    expected = ((x.mean(axis=0) - g.mean(axis=0)) ** 2).sum() + np.trace(c[0] + c[1] - 2.0 * root)
    assert frechet_distance(summed(x), summed(g)) == pytest.approx(float(expected), rel=1e-8)


def test_the_distance_of_one_feature_is_that_of_two_normal_distributions() -> None:
    real, generated = np.array([[-1.0], [1.0]]), np.array([[0.0], [6.0]])  # means 0 and 3, deviations 2^.5 and 18^.5
    expected = 3.0**2 + (18.0**0.5 - 2.0**0.5) ** 2
    assert frechet_distance(summed(real), summed(generated)) == pytest.approx(expected)


@laws
@given(seeds)
def test_a_set_has_no_distance_to_itself(seed: int) -> None:
    found = frechet_distance(summed(features(seed)), summed(features(seed)))
    assert found is not None and 0.0 <= found < 1e-9


@laws
@given(seeds, st.floats(-100.0, 100.0))
def test_moving_every_feature_costs_the_squared_length_of_the_move(seed: int, step: float) -> None:
    f = features(seed)
    move = np.array([step, 0.0, -2.0 * step, 0.5])
    distance = frechet_distance(summed(f), summed(f + move))
    assert distance == pytest.approx(float((move**2).sum()), rel=1e-6, abs=1e-6)


@laws
@given(seeds, st.floats(0.1, 10.0))
def test_scaling_about_the_mean_costs_the_variances_times_the_squared_change(seed: int, scale: float) -> None:
    f = features(seed)
    f -= f.mean(axis=0)
    distance = frechet_distance(summed(f), summed(scale * f))
    assert distance == pytest.approx((scale - 1.0) ** 2 * float(f.var(axis=0, ddof=1).sum()), rel=1e-6, abs=1e-6)


@laws
@given(seeds, seeds)
def test_the_distance_is_the_same_from_both_sides(one: int, other: int) -> None:
    a, b = summed(features(one)), summed(features(other, count=25, scale=3.0))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("label", [None, 0])
def test_fewer_than_two_images_on_either_side_have_no_distance(count: int, label: int | None) -> None:
    few, many = summed(features(0, count)), summed(features(1))
    assert frechet_distance(few, many, label) is None
    assert frechet_distance(many, few, label) is None


def test_two_images_of_two_classes_have_a_distance_together_and_none_by_class() -> None:
    two, many = summed(features(0, 2)), summed(features(1))
    assert frechet_distance(two, many) is not None
    assert frechet_distance(two, many, label=0) is None
    assert frechet_distance(two, many, label=2) is None


def test_features_without_any_spread_keep_the_distance_of_their_means() -> None:
    zeros, ones = summed(np.zeros((3, D))), summed(np.ones((3, D)))
    assert frechet_distance(zeros, ones) == pytest.approx(D)


@pytest.mark.parametrize("size", [1e-200, 1e-12, 1e12, 1e70, 1e80, 1e160, 1e300])
def test_a_distance_is_never_nan_however_large_or_small_the_numbers(size: float) -> None:
    with np.errstate(over="ignore"):
        sums = summed(features(0, scale=size)), summed(features(1, scale=size))
    found = frechet_distance(*sums)
    assert found is None if size > 1e75 else found is not None and np.isfinite(found) and found >= 0.0


def test_sums_that_no_images_have_give_no_nan_either() -> None:
    for total, outer in ((1e9, -1.0), (0.0, -1.0), (0.0, 1e9), (1e60, 0.0), (1e150, 0.0), (1e300, 1e300)):
        wrong = {"count": np.full(K, 5.0), "sum": np.full((K, D), total), "outer": np.full((K, D, D), outer)}
        found = frechet_distance(wrong, summed(features(1)))
        assert found is None if total > 1e75 else found is not None and np.isfinite(found)


def test_sums_of_float32_features_are_taken_in_float64() -> None:
    sums = feature_sums(np.full((10_000, 1), 0.1, dtype=np.float32), np.zeros(10_000, dtype=np.int64), 1)
    assert {value.dtype for value in sums.values()} == {np.dtype(np.float64)}
    assert sums["sum"][0, 0] == pytest.approx(10_000 * float(np.float32(0.1)), rel=1e-12)


def test_no_images_give_sums_of_zeros_with_the_shapes_of_many() -> None:
    none, many = summed(features(0, 0)), summed(features(0))
    assert {key: value.shape for key, value in none.items()} == {key: value.shape for key, value in many.items()}
    assert not any(value.any() for value in none.values())
