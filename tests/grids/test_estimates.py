"""Means and intervals over seeds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_app.grids.estimates import estimate


def test_the_interval_is_students() -> None:
    found = estimate([1.0, 2.0, 3.0])
    assert found.mean == 2.0 and found.deviation == 1.0
    assert found.high == pytest.approx(2.0 + 4.302653 / 3**0.5, rel=1e-6)  # t of 2 degrees of freedom, 97.5 %
    assert found.low == pytest.approx(2.0 - 4.302653 / 3**0.5, rel=1e-6)


def test_one_seed_has_a_mean_and_nothing_else() -> None:
    found = estimate([0.7])
    assert (found.mean, found.deviation, found.low, found.high, found.num_seeds) == (0.7, None, None, None, 1)


def test_no_seed_has_nothing() -> None:
    assert estimate([]).mean is None and estimate([]).num_seeds == 0


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8), st.floats(-1, 1))
def test_a_shift_of_all_seeds_shifts_the_interval_and_keeps_its_width(values: list[float], by: float) -> None:
    one, other = estimate(values), estimate([value + by for value in values])
    assert one.mean is not None and one.low is not None and other.mean is not None and other.low is not None
    assert other.mean == pytest.approx(one.mean + by, abs=1e-9)
    assert other.mean - other.low == pytest.approx(one.mean - one.low, abs=1e-6)
