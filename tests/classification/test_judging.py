"""Sums of one network fit together; a site whose sums do not is found by the others."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from fl_app.classification.judging import contradicted, out_of_scale

Array = NDArray[np.float64]
Moments = dict[str, Array]

K, D = 4, 6
MEANS = np.random.default_rng(0).uniform(1.0, 3.0, (K, D)) * (1.0 + 2.0 * np.eye(K, D))


def moments(seed: int, counts: tuple[int, ...] = (30, 30, 30, 30)) -> Moments:
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(K), counts)
    f = np.maximum(MEANS[labels] + generator.normal(0.0, 0.5, (len(labels), D)), 0.0)
    members = np.eye(K)[labels]
    return {"count": members.sum(axis=0), "sum": members.T @ f, "outer": f.T @ f}


def other_classes(part: Moments) -> Moments:
    return {**part, "sum": np.roll(part["sum"], 1, axis=0)}


def larger(part: Moments) -> Moments:
    return {**part, "sum": part["sum"] * 5.0, "outer": part["outer"] * 25.0}


def billions(part: Moments) -> Moments:
    return {key: np.roll(value, 1, axis=0) * 1e7 if key == "sum" else value * 1e7 for key, value in part.items()}


def scattered(part: Moments) -> Moments:
    return {**part, "outer": part["outer"] + 1e4 * np.eye(D)}


@pytest.mark.parametrize("lie", [other_classes, larger, billions, scattered])
@pytest.mark.parametrize("num_honest", [2, 4])
def test_a_site_whose_sums_are_false_is_found_and_no_other(lie: Callable[[Moments], Moments], num_honest: int) -> None:
    honest = {f"site-{number}": moments(number) for number in range(num_honest)}
    assert list(contradicted({**honest, "liar": lie(moments(9))})) == ["liar"]


def test_sites_of_very_different_classes_and_sizes_are_all_fit() -> None:
    counts = [(100, 0, 0, 0), (0, 1, 0, 0), (2, 2, 2, 40), (0, 0, 7, 90), (300, 5, 5, 5), (0, 0, 0, 0)]
    parts = {str(number): moments(number, one) for number, one in enumerate(counts)}
    assert contradicted(parts) == {}


def test_of_two_sites_none_is_blamed() -> None:
    assert contradicted({"a": moments(0), "b": other_classes(moments(1))}) == {}


def one_dimension(part: Moments) -> Moments:
    total = np.zeros((K, D))
    total[:, 0] = part["count"] * 1e6
    outer = np.zeros((D, D))
    outer[0, 0] = part["count"].sum() * 1e12
    return {**part, "sum": total, "outer": outer}


def times(factor: float) -> Callable[[Moments], Moments]:
    return lambda part: {**part, "sum": part["sum"] * factor, "outer": part["outer"] * factor**2}


@pytest.mark.parametrize("lie", [times(1e6), times(0.0), times(1e-6), one_dimension, scattered])
@pytest.mark.parametrize("num_honest", [2, 4])
def test_sums_of_own_networks_that_are_of_another_size_are_found(
    lie: Callable[[Moments], Moments], num_honest: int
) -> None:
    honest = {f"site-{number}": times(1.0 + 0.2 * number)(moments(number)) for number in range(num_honest)}
    assert list(out_of_scale({**honest, "liar": lie(moments(9))})) == ["liar"]


def test_own_networks_that_see_classes_elsewhere_are_all_fit() -> None:
    counts = [(100, 0, 0, 0), (0, 1, 0, 0), (2, 2, 2, 40), (0, 0, 7, 90), (300, 5, 5, 5), (0, 0, 0, 0)]
    parts = {}
    for number, one in enumerate(counts):
        part = times(1.0 + 0.2 * number)(moments(number, one))
        turned = np.roll(np.roll(part["outer"], number, axis=0), number, axis=1)
        parts[str(number)] = {**part, "sum": np.roll(part["sum"], number, axis=1), "outer": turned}
    assert out_of_scale(parts) == {}
    assert out_of_scale({"a": moments(0), "b": times(1e6)(moments(1))}) == {}
