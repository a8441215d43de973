"""Laws of the kernel distance and the neighbour figures, and numbers worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fl_app.metrics import generation
from fl_app.metrics.generation import kernel_distance, kernel_sums, neighbour_figures, neighbour_sums
from fl_app.sums import add

Array = NDArray[np.float64]

D = 4
laws = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def features(seed: int, count: int = 40, scale: float = 1.0, width: int = D) -> Array:
    return scale * np.random.default_rng(seed).standard_normal((count, width))


def kernel(x: Array, y: Array) -> float:
    return float((x @ y / len(x) + 1.0) ** 3)


def pooled_kernel_distance(x: Array, g: Array) -> float:
    """The unbiased estimate, pair by pair."""
    of_real, of_generated = (
        np.mean([kernel(f[i], f[j]) for i in range(len(f)) for j in range(len(f)) if i != j]) for f in (x, g)
    )
    return float(of_real + of_generated - 2.0 * np.mean([kernel(a, b) for a in x for b in g]))


@laws
@given(seeds, st.integers(2, 8), st.integers(2, 8))
def test_kernel_sums_are_the_means_over_pairs_of_different_images(seed: int, n: int, m: int) -> None:
    x, g = features(seed, n), features(seed + 1, m, 1.5)
    found = kernel_distance({"a": kernel_sums(x, g)})
    assert found is not None and (found.num_real, found.num_generated, found.num_sites) == (n, m, 1)
    assert found.value == pytest.approx(pooled_kernel_distance(x, g), rel=1e-9, abs=1e-9)


def test_kernel_sums_by_hand() -> None:
    found = kernel_sums(np.array([[0.0], [1.0], [2.0]]), np.array([[1.0], [-1.0]]))
    assert found["real"][0] == pytest.approx((1 + 1 + 27) / 3)  # k(0,1), k(0,2), k(1,2)
    assert found["generated"][0] == 0.0  # (1 * -1 + 1)^3
    assert found["cross"][0] == pytest.approx((1 + 1 + 8 + 0 + 27 - 1) / 6)
    assert (found["num-real"][0], found["num-generated"][0]) == (3.0, 2.0)


@laws
@given(seeds, st.integers(3, 9))
def test_the_variance_is_the_jackknife_over_the_real_images(seed: int, n: int) -> None:
    x, g = features(seed, n), features(seed + 1, 4, 1.5)
    left_out = np.array([pooled_kernel_distance(np.delete(x, i, axis=0), g) for i in range(n)])
    expected = (n - 1) / n * float(((left_out - left_out.mean()) ** 2).sum())
    assert kernel_sums(x, g)["variance"][0] == pytest.approx(expected, rel=1e-8)


def test_the_standard_error_is_the_spread_of_distances_of_other_real_images() -> None:
    g = features(0, 50, 1.3)
    found = [kernel_distance({"a": kernel_sums(features(seed, 100), g)}) for seed in range(1, 201)]
    values, errors = (np.array([getattr(one, name) for one in found]) for name in ("value", "error"))
    assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(ddof=1), rel=0.15)


def test_the_error_of_equal_sites_falls_with_the_root_of_their_number() -> None:
    part = kernel_sums(features(0), features(1))
    one, four = kernel_distance({"a": part}), kernel_distance(dict.fromkeys("abcd", part))
    assert one is not None and four is not None
    assert four.error == pytest.approx(one.error / 2.0)
    assert four.value == pytest.approx(one.value)
    assert (four.num_real, four.num_sites) == (4 * one.num_real, 4)


def test_a_site_counts_by_its_pairs() -> None:
    g = features(9)
    a, b = kernel_sums(features(0, 10), g), kernel_sums(features(1, 30), g)
    one, other, both = (kernel_distance(parts) for parts in ({"a": a}, {"b": b}, {"a": a, "b": b}))
    assert one is not None and other is not None and both is not None
    assert both.value == pytest.approx(0.25 * one.value + 0.75 * other.value)
    assert both.error == pytest.approx(np.hypot(0.25 * one.error, 0.75 * other.error))


@pytest.mark.parametrize(("n", "m"), [(0, 5), (1, 5), (5, 0), (5, 1), (0, 0)])
def test_a_side_of_fewer_than_two_images_has_zeros_and_true_numbers(n: int, m: int) -> None:
    found = kernel_sums(features(0, n), features(1, m))
    assert (found.pop("num-real")[0], found.pop("num-generated")[0]) == (n, m)
    assert {float(value[0]) for value in found.values()} == {0.0}


def test_sites_with_fewer_than_two_real_images_do_not_count() -> None:
    many, few = kernel_sums(features(0), features(1)), kernel_sums(features(2, 1), features(1))
    assert kernel_distance({"a": many, "b": few}) == kernel_distance({"a": many})
    assert kernel_distance({"b": few}) is None
    assert kernel_distance({}) is None


@pytest.mark.parametrize("is_skewed", [False, True])
def test_the_mean_over_sites_ranks_generators_as_the_pooled_distance(is_skewed: bool) -> None:
    x = features(0, 300) + 3.0 * np.eye(D)[np.arange(300) % D]
    order = np.argsort(x[:, 0]) if is_skewed else np.random.default_rng(1).permutation(300)
    sites = np.split(x[order], [5, 90, 250])
    generators = [features(2 + j, 80) + 3.0 * (1 - j / 30) * np.eye(D)[np.arange(80) % D] for j in range(10)]
    means = [kernel_distance({str(i): kernel_sums(site, g) for i, site in enumerate(sites)}) for g in generators]
    pooled = [kernel_distance({"all": kernel_sums(x, g)}) for g in generators]
    values = [np.array([one.value for one in found if one is not None]) for found in (means, pooled)]
    assert np.array_equal(np.argsort(values[0]), np.argsort(values[1])) and len(values[0]) == 10
    assert np.ptp(values[0] - values[1]) == pytest.approx(0.0, abs=1e-9)  # only the real images' own term differs


def test_neighbour_counts_by_hand() -> None:
    real = np.array([[0.0], [1.0], [3.0]])  # radii with k = 1: 1, 1, 2
    generated = np.array([[-1.0], [2.0], [9.0]])  # radii: 3, 3, 7
    counts = neighbour_sums(real, generated, k=1)["counts"]
    # -1 in the ball of 0, on its border; 2 in those of 1 and 3; 9 in none; every real one in a generated ball
    assert counts.tolist() == [2.0, 3.0, 3.0, 3.0, 3.0, 3.0]
    expected = {"precision": 2 / 3, "recall": 1.0, "density": 1.0, "coverage": 1.0}
    assert neighbour_figures({"counts": counts}, k=1) == pytest.approx(expected)


@laws
@given(seeds, st.integers(1, 6))
def test_neighbour_counts_are_those_of_the_definitions(seed: int, k: int) -> None:
    x, g = (np.round(features(seed + i, 9 + 4 * i, 1.5 + i, 2)) for i in range(2))  # whole numbers, with many ties
    between = ((x[:, None] - g[None]) ** 2).sum(axis=2)
    radii = []
    for f in (x, g):
        others = [np.delete(((f - one) ** 2).sum(axis=1), i) for i, one in enumerate(f)]
        radii.append(np.array([np.sort(one)[k - 1] for one in others]))
    in_real, in_generated = between <= radii[0][:, None], between <= radii[1]
    expected = [
        in_real.any(axis=0).sum(),
        in_generated.any(axis=1).sum(),
        in_real.sum(),
        in_real.any(axis=1).sum(),
        len(x),
        len(g),
    ]
    assert neighbour_sums(x, g, k)["counts"].tolist() == expected


def test_copies_of_the_real_images_are_precise_recalled_and_cover_all() -> None:
    f = features(0)
    found = neighbour_figures(neighbour_sums(f, f))
    assert (found["precision"], found["recall"], found["coverage"]) == (1.0, 1.0, 1.0)
    assert found["density"] == pytest.approx(6 / 5)  # its own ball, and five others on average


def test_images_far_away_are_neither_precise_nor_recalled_nor_dense_nor_covering() -> None:
    found = neighbour_figures(neighbour_sums(features(0), features(1) + 100.0))
    assert found == {"precision": 0.0, "recall": 0.0, "density": 0.0, "coverage": 0.0}


@pytest.mark.parametrize(("n", "m"), [(0, 9), (5, 9), (9, 5), (9, 0)])
def test_a_side_of_k_images_or_fewer_counts_nothing(n: int, m: int) -> None:
    found = neighbour_sums(features(0, n), features(1, m), k=5)
    assert not found["counts"].any()
    assert set(neighbour_figures(found).values()) == {None}


def test_one_image_more_than_k_counts() -> None:
    counts = neighbour_sums(features(0, 6), features(1, 6), k=5)["counts"]
    assert counts[4:].tolist() == [6.0, 6.0]


def test_figures_of_several_sites_are_means_over_their_images() -> None:
    g = features(9, 20)
    parts = [neighbour_sums(features(0, 10), g), neighbour_sums(features(1, 30, 3.0), g)]
    one, other = (neighbour_figures(part) for part in parts)
    both = neighbour_figures(add(parts))
    for name, share in {"precision": 0.5, "density": 0.5, "recall": 0.25, "coverage": 0.25}.items():
        a, b = one[name], other[name]
        assert a is not None and b is not None
        assert both[name] == pytest.approx(share * a + (1 - share) * b)


@pytest.mark.parametrize("block", [1, 7, 45, 10_000])
def test_blocks_of_any_size_give_the_same_numbers(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, g = features(0, 23), features(1, 17)
    whole = kernel_sums(x, g), neighbour_sums(x, g)
    monkeypatch.setattr(generation, "_BLOCK", block)
    for found, expected in zip((kernel_sums(x, g), neighbour_sums(x, g)), whole, strict=True):
        for key, value in found.items():
            np.testing.assert_allclose(value, expected[key], rtol=1e-12)
