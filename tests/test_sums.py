"""Laws of sums that nodes send."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fl_app.sums import add, mean

laws = settings(max_examples=50, deadline=None)

counts = st.lists(st.integers(-(2**40), 2**40), min_size=3, max_size=3)


def part(values: list[int]) -> dict[str, NDArray[np.float64]]:
    return {"sum": np.array(values, dtype=np.float64), "count": np.array(float(len(values)))}


@laws
@given(st.lists(counts, min_size=1, max_size=6))
def test_the_sum_of_parts_is_the_sum_of_each_key(parts: list[list[int]]) -> None:
    total = add(part(values) for values in parts)
    assert total["sum"].tolist() == [float(sum(column)) for column in zip(*parts, strict=True)]
    assert total["count"] == 3 * len(parts)


@laws
@given(st.lists(counts, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_whole_numbers_add_up_alike_in_any_order(parts: list[list[int]], random: Random) -> None:
    shuffled = random.sample(parts, len(parts))
    assert add(map(part, shuffled))["sum"].tolist() == add(map(part, parts))["sum"].tolist()


@laws
@given(st.lists(counts, min_size=2, max_size=6), st.data())
def test_sums_of_sums_are_sums(parts: list[list[int]], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(parts) - 1))
    halves = [add(map(part, parts[:cut])), add(map(part, parts[cut:]))]
    assert add(halves)["sum"].tolist() == add(map(part, parts))["sum"].tolist()


def test_nothing_adds_up_to_no_sums() -> None:
    assert add([]) == {}


def test_adding_leaves_the_parts_as_they_were() -> None:
    first, second = part([1, 2, 3]), part([4, 5, 6])
    add([first, second])
    assert first["sum"].tolist() == [1.0, 2.0, 3.0]
    assert second["sum"].tolist() == [4.0, 5.0, 6.0]


def test_a_single_float32_part_comes_back_as_float64() -> None:
    assert add([{"n": np.array([0.5]).astype(np.float32)}])["n"].dtype == np.float64


@pytest.mark.parametrize("other", [{"sum": np.zeros(3)}, {"sum": np.zeros(2), "count": np.zeros(())}])
def test_parts_that_differ_in_keys_or_shapes_are_refused(other: dict[str, NDArray[np.float64]]) -> None:
    with pytest.raises(ValueError, match="other keys or shapes"):
        add([part([1, 2, 3]), other])


@laws
@given(st.floats(-1e9, 1e9), st.integers(1, 10**6))
def test_a_mean_is_the_sum_over_the_count(total: float, count: int) -> None:
    assert mean(total, count) == total / count


def test_a_mean_over_nothing_is_not_defined() -> None:
    assert mean(0.0, 0) is None
    assert mean(5.0, 0) is None
