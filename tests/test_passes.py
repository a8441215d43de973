"""What a pass makes of the strategy that trained it."""

from types import SimpleNamespace
from typing import cast

import numpy as np

from fl_app.data.images import DatasetInfo
from fl_app.metrics.classification import score_sums
from fl_app.passes import build_pass
from fl_app.strategies.prototypes import Exchange
from fl_app.strategies.setup import Setup
from tests.options import run_config

INFO = DatasetInfo(("dark", "light"), 1, 8)


def test_a_classifier_is_judged_with_the_head_that_its_own_strategy_ships() -> None:
    config = run_config({"tasks": "classification"})
    run_pass = build_pass(config.pass_named("classification"), config, INFO)
    good, poor = run_pass.strategy(Setup()), run_pass.strategy(Setup())
    for strategy, accuracy in ((good, 0.9), (poor, 0.1)):
        shipped = SimpleNamespace(selection=SimpleNamespace(shipped=SimpleNamespace(accuracy=accuracy)))
        strategy.exchanges[run_pass.num_rounds] = cast(Exchange, shipped)
    before, after = (score_sums(np.array([[sure, 0.0], [sure, 0.0]]), np.array([0, 1])) for sure in (0.0, 5.0))
    assert run_pass.improved(good, before, after) is True
    assert run_pass.improved(poor, before, after) is False
