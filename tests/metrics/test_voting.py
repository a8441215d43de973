"""A decision is that of all images, and no single site turns it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_app.sums import Sums, add, decide, steady, without

COUNTS = st.tuples(st.integers(0, 50), st.integers(1, 50))


def share(right: float, number: float) -> Sums:
    return {"right": np.array(float(right)), "n": np.array(float(number))}


def is_most(sums: Sums) -> bool:
    return bool(sums["right"] > 0.5 * sums["n"])


def mean(sums: Sums) -> float | None:
    return float(sums["right"] / sums["n"]) if sums["n"] > 0 else None


def decision(*parts: Sums) -> bool:
    named = {str(number): part for number, part in enumerate(parts)}
    return decide(add(parts), named, is_most, is_most)


def test_a_site_that_claims_a_billion_images_decides_nothing() -> None:
    honest = [share(80, 100), share(70, 100), share(75, 100), share(65, 100)]
    assert decision(*honest, share(0, 1e9))
    assert not decision(*(share(20, 100) for _ in range(4)), share(1e9, 1e9))


def test_what_does_not_hinge_on_one_site_is_decided_by_all_images() -> None:
    """Three small sites say no, two large ones yes: with any of them left out, most images still say yes."""
    assert decision(share(0, 10), share(0, 10), share(0, 10), share(90, 100), share(90, 100))


@given(st.lists(COUNTS, min_size=2, max_size=2))
def test_of_two_sites_all_images_decide(counts: list[tuple[int, int]]) -> None:
    parts = [share(min(right, n), n) for right, n in counts]
    assert decision(*parts) == is_most(add(parts))


@given(st.lists(COUNTS, min_size=3, max_size=6), st.integers(0, 10**9), st.integers(1, 10**9))
def test_if_all_honest_sites_agree_a_lie_changes_nothing(counts: list[tuple[int, int]], right: int, n: int) -> None:
    honest = [share(n, n) for _, n in counts]
    assert decision(*honest, share(min(right, n), n))


def test_a_figure_that_one_site_moves_far_is_that_of_the_others() -> None:
    honest = {str(number): share(10 + number, 100) for number in range(4)}
    assert steady(add(honest.values()), honest, mean, 1.25) == pytest.approx(0.115)
    for liar in (share(1e9, 1e9), share(100, 100), share(1, 1e9)):
        lied = {**honest, "liar": liar}
        assert steady(add(lied.values()), lied, mean, 1.25) == pytest.approx(0.115)


def test_a_figure_that_no_site_moves_far_is_that_of_all_images() -> None:
    parts = {"a": share(300, 1000), "b": share(310, 1000), "small": share(9, 10)}
    assert steady(add(parts.values()), parts, mean, 1.25) == pytest.approx(619 / 2010)


def test_a_part_that_is_taken_out_leaves_the_others() -> None:
    parts = [share(1, 2), share(3, 4), share(5, 6)]
    left = without(add(parts), parts[1])
    assert (float(left["right"]), float(left["n"])) == (6.0, 8.0)
