"""The rounds of a federation: who is late or failed, when it stops, and that it goes on where it stopped."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAdam, FedAvg

from fl_app.errors import FederationError
from fl_app.messages.arrays import Weights, array_record, to_weights
from fl_app.strategies.outcomes import RoundRecord
from fl_app.strategies.resilient import Resilient, Snapshot
from fl_app.strategies.setup import Everyone, Setup, Unwatched
from tests.strategies.rounds import Counting, crash, initial, silence, value

OPEN: Mapping[str, Any] = {"min_available_nodes": 1, "min_train_nodes": 1, "fraction_evaluate": 0.0}


class Average(Resilient, FedAvg):
    pass


class Adam(Resilient, FedAdam):
    pass


class Watching(Unwatched):
    def __init__(self) -> None:
        self.rounds: list[RoundRecord] = []
        self.means: list[float] = []

    def round_ended(self, record: RoundRecord, before: Weights, after: Weights) -> None:
        self.rounds.append(record)
        self.means.append(value(after))


def test_a_round_goes_on_without_a_node_that_fails_or_is_silent() -> None:
    watching = Watching()
    strategy = Average(setup=Setup(observer=watching), **OPEN)
    grid = Counting(3, {(1, 2): crash, (2, 3): silence})
    result = strategy.start(grid, initial(), num_rounds=2, timeout=0.05)
    first, second = (record.nodes for record in watching.rounds)
    assert first["node-2"].outcome == "failed" and second["node-3"].outcome == "late"
    assert watching.means == [pytest.approx((10 + 90) / 40), pytest.approx(2.5 + (10 + 40) / 30)]
    assert value(result.arrays) == watching.means[-1]


def test_a_round_that_fails_leaves_the_weights_as_they_are_and_the_run_goes_on() -> None:
    watching = Watching()
    strategy = Average(setup=Setup(observer=watching, max_failed_rounds=2), **OPEN)
    strategy.start(Counting(1, {(2, 1): crash}), initial(), num_rounds=3)
    assert watching.means == [1.0, 1.0, 2.0] and strategy.failed_in_a_row == 0


def test_after_failed_rounds_in_a_row_the_run_stops_and_says_how_to_go_on() -> None:
    strategy = Average(setup=Setup(max_failed_rounds=2, run_folder="/runs/a"), **OPEN)
    faults = {(number, 1): crash for number in (2, 3, 4)}
    with pytest.raises(FederationError, match="2 rounds in a row failed") as caught:
        strategy.start(Counting(1, faults), initial(), num_rounds=5)  # type: ignore[arg-type]
    assert 'resume = "/runs/a"' in str(caught.value) and strategy.record.round_number == 3


def test_too_few_nodes_end_the_wait() -> None:
    strategy = Average(setup=Setup(sites=Everyone(3, wait_seconds=0.0)), **OPEN)
    with pytest.raises(FederationError, match="2 of 3 nodes connected in 0 s"):
        strategy.start(Counting(2), initial(), num_rounds=1)


def test_a_resumed_run_ends_with_the_bits_of_one_that_was_never_stopped() -> None:
    whole = Adam(**OPEN, eta=0.1).start(Counting(3), initial(), num_rounds=4)
    stopped = Adam(**OPEN, eta=0.1)
    halfway = to_weights(stopped.start(Counting(3), initial(), num_rounds=2).arrays)
    arrays, values = stopped.state()
    resumed = Adam(**OPEN, eta=0.1)
    resumed.restore(Snapshot(2, resumed.models(halfway), arrays, values))
    grid = Counting(3)
    found = resumed.start(grid, array_record(halfway), num_rounds=4)
    assert sorted(grid.asked) == [3, 4] and sorted(found.train_metrics_clientapp) == [3, 4]
    for key, array in to_weights(whole.arrays).items():
        np.testing.assert_array_equal(to_weights(found.arrays)[key], array)


def test_nodes_are_drawn_by_the_seed_and_the_round() -> None:
    def drawn(seed: int) -> dict[int, list[int]]:
        grid = Counting(5)
        Average(setup=Setup(seed=seed, nodes_per_round=2), **OPEN).start(grid, initial(), num_rounds=6)
        return {number: sorted(nodes) for number, nodes in grid.asked.items()}

    assert drawn(0) == drawn(0) != drawn(1)
    assert {len(nodes) for nodes in drawn(0).values()} == {2} and len(set(map(tuple, drawn(0).values()))) > 1


def test_hooks_are_called_around_each_round() -> None:
    class Noting(Average):
        def __init__(self, **flower: Any) -> None:
            super().__init__(**flower)
            self.calls: list[Sequence[object]] = []

        def begin(self, weights: Weights) -> None:
            self.calls.append(("begin", value(weights)))

        def before_round(self, grid: Grid, number: int, weights: Weights) -> None:
            self.calls.append(("before", number, value(weights)))

        def after_training(self, number: int, after: Weights | None) -> None:
            self.calls.append(("after", number, None if after is None else value(after)))

        def after_rounds(self, grid: Grid, weights: Weights, number: int) -> None:
            self.calls.append(("end", number, value(weights)))

    strategy = Noting(**OPEN)
    strategy.start(Counting(1, {(2, 1): crash}), initial(), num_rounds=2)
    assert strategy.calls == [
        ("begin", 0.0),
        ("before", 1, 0.0),
        ("after", 1, 1.0),
        ("before", 2, 1.0),
        ("after", 2, None),
        ("end", 2, 1.0),
    ]
