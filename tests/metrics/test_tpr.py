"""The share of members found at 1 % false positives: by hand, and how often its interval holds the true one."""

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from fl_app.metrics.membership import NUM_BINS, histogram
from fl_app.metrics.tpr import tpr_interval, tpr_of


@pytest.mark.parametrize("number", [299, 300])
def test_the_tpr_is_not_defined_below_300_controls(number: int) -> None:
    controls = np.geomspace(0.01, 1.0, number)
    found = tpr_of(histogram(np.full(7, 1e-4)), histogram(controls))
    assert found == (None if number < 300 else 1.0)
    assert tpr_of(np.zeros(NUM_BINS), histogram(controls)) is None


def test_the_tpr_is_that_of_the_threshold_that_one_percent_of_the_controls_pass() -> None:
    controls = np.concatenate([np.full(4, 0.001), np.full(396, 1.0)])
    members = np.concatenate([np.full(3, 1e-4), np.full(2, 0.001), np.full(5, 1.0)])
    assert tpr_of(histogram(members), histogram(controls)) == pytest.approx(0.5)  # 4 of 400 are 1 %
    more = np.concatenate([np.full(8, 0.001), np.full(392, 1.0)])  # 1 % are half of the bin
    assert tpr_of(histogram(members), histogram(more)) == pytest.approx(0.4)
    assert tpr_of(histogram(more), histogram(more)) == pytest.approx(0.01)


@pytest.mark.parametrize(("num_members", "num_controls"), [(1290, 300), (1290, 1000), (200, 437), (20, 5000)])
@pytest.mark.parametrize("gap", [0.0, 1.0, 3.0])
def test_the_interval_holds_the_true_share_as_often_as_it_says(num_members: int, num_controls: int, gap: float) -> None:
    generator = np.random.default_rng(0)
    true, inside = float(ndtr(ndtri(0.01) + gap)), 0
    for _ in range(400):
        members, controls = generator.normal(-gap, 1, num_members), generator.normal(0, 1, num_controls)
        interval = tpr_interval(histogram(np.exp(0.5 * members - 3.0)), histogram(np.exp(0.5 * controls - 3.0)))
        assert interval is not None
        inside += interval[0] <= true <= interval[1]
    assert inside / 400 >= 0.93


def test_the_interval_holds_the_found_share_and_is_defined_when_it_is() -> None:
    generator = np.random.default_rng(1)
    for number in (299, 300, 436, 437, 2000):
        controls = histogram(np.exp(generator.normal(-3, 0.5, number)))
        for gap in (0.0, 0.5, 2.0):
            members = histogram(np.exp(generator.normal(-3 - gap, 0.5, 50)))
            found, interval = tpr_of(members, controls), tpr_interval(members, controls)
            assert (found is None) == (interval is None) == (number < 300)
            assert found is None or interval is None or 0 <= interval[0] <= found <= interval[1] <= 1
    assert tpr_interval(np.zeros(NUM_BINS), histogram(np.ones(500))) is None


def test_the_lower_end_is_zero_until_a_control_lies_surely_below_the_threshold() -> None:
    members = histogram(np.full(50, 1e-4))
    for number, is_zero in ((436, True), (437, False)):
        interval = tpr_interval(members, histogram(np.full(number, 1.0)))
        assert interval is not None and (interval[0] == 0.0) == is_zero and interval[1] == 1.0
