"""No hospital refuses honest weights: each strategy in one situation; `benchmarks.false_refusals` tries all 54."""

from itertools import cycle
from pathlib import Path

import pytest

from benchmarks.false_refusals import SITUATIONS, STRATEGIES, refusals_in
from fl_app.plugins import built_in

PAIRS = list(zip(STRATEGIES, cycle(SITUATIONS), strict=False))


def test_all_strategies_and_situations_are_tried() -> None:
    assert set(STRATEGIES) == set(built_in("strategies")) and len(SITUATIONS) == 6
    assert {situation for _, situation in PAIRS} == set(SITUATIONS)


@pytest.mark.parametrize(("strategy", "situation"), PAIRS)
def test_no_hospital_refuses_honest_weights(tmp_path: Path, strategy: str, situation: str) -> None:
    refusals, state = refusals_in(situation, strategy, tmp_path)
    assert refusals == [] and state in ("completed", "degraded")
