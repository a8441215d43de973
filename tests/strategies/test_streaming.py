"""Replies are judged one by one, folded into a mean, and dropped."""

import math
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Bulyan, FedAdam, FedAvg, FedMedian, FedTrimmedAvg, Krum, MultiKrum, QFedAvg

from fl_app.messages.arrays import Weights, array_record, to_weights
from fl_app.messages.records import Reply
from fl_app.options.federation import AdmissionOptions
from fl_app.strategies.admission import Admission
from fl_app.strategies.outcomes import RoundRecord
from fl_app.strategies.setup import Setup
from fl_app.strategies.streaming import Streaming
from fl_app.strategies.transport import PlainWire
from tests.strategies.rounds import answer, crash, initial, value


class Mean(Streaming, FedAvg):
    pass


class Median(Streaming, FedMedian):
    pass


class Adam(Streaming, FedAdam):
    pass


def before(kind: type[FedAvg]) -> type[Streaming]:
    """Put ours before a strategy of Flower."""
    return type(f"Streaming{kind.__name__}", (Streaming, kind), {})


def instruction(node: int) -> Message:
    content = RecordDict({"arrays": initial(), "config": ConfigRecord({"server-round": 1})})
    message = Message(content, dst_node_id=node, message_type="train")
    message.metadata.__dict__["_message_id"] = f"message-{node}"
    return message


def fold(strategy: Streaming, replies: Iterable[Message], num_nodes: int = 3) -> ArrayRecord | None:
    """Hand replies of round 1 to a strategy."""
    strategy.record = RoundRecord("model", 1, asked=[f"node-{node}" for node in range(1, num_nodes + 1)])
    strategy.current = to_weights(initial())
    strategy.sites = {node: f"node-{node}" for node in range(1, num_nodes + 1)}
    return strategy.aggregate_train(1, replies)[0]


def test_the_mean_is_weighted_by_images_whatever_the_order() -> None:
    found = [
        fold(Mean(), [answer(instruction(node), node, 10.0 * node) for node in order])
        for order in ((1, 2, 3), (3, 1, 2))
    ]
    assert [value(one) for one in found if one] == [pytest.approx((1 + 4 + 9) / 6)] * 2


def test_each_reply_is_dropped_before_the_next_is_asked_for() -> None:
    alive: list[int] = []

    def replies() -> Iterable[Message]:
        refs: list[weakref.ref[Message]] = []
        for node in (1, 2, 3):
            alive.append(sum(ref() is not None for ref in refs))
            reply = answer(instruction(node), node, 1.0)
            refs.append(weakref.ref(reply))
            yield reply
            del reply

    fold(Mean(), replies())
    assert alive == [0, 0, 0]


def test_strategies_that_compare_replies_get_all_of_them() -> None:
    found = fold(
        Median(), [answer(instruction(node), change, 1.0) for node, change in ((3, 100.0), (1, 1.0), (2, 2.0))]
    )
    assert found is not None and value(found) == 2.0


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (FedMedian, {}),
        (FedTrimmedAvg, {"beta": 0.2}),
        (Krum, {"num_malicious_nodes": 1}),
        (MultiKrum, {"num_malicious_nodes": 1, "num_nodes_to_select": 3}),
        (Bulyan, {"num_malicious_nodes": 1}),
    ],
)
def test_every_robust_strategy_of_flower_stays_robust(kind: type[FedAvg], options: dict[str, float]) -> None:
    build: Any = before(kind)
    strategy = build(**options)
    changes = dict.fromkeys(range(1, 7), 1.0) | {7: 1000.0}
    found = fold(strategy, [answer(instruction(node), change, 1.0) for node, change in changes.items()], num_nodes=7)
    assert found is not None and value(found) == pytest.approx(1.0)


def test_a_strategy_that_weighs_replies_by_their_loss_finds_it() -> None:
    build: Any = before(QFedAvg)
    strategy = build(client_learning_rate=0.1, q=0.0, train_loss_key="loss")
    strategy.current_arrays = initial()
    replies = [answer(instruction(node), 1.0, 1.0) for node in (1, 2, 3)]
    for reply in replies:
        reply.content.metric_records["metrics"]["loss"] = 1.0
    found = fold(strategy, replies)
    assert found is not None and value(found) == pytest.approx(1.0)


def test_any_other_strategy_of_flower_gets_all_replies_unless_the_mean_is_enough() -> None:
    kinds = {name: getattr(flower, name) for name in flower.__all__}
    strategies = [name for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, FedAvg)]
    keeps_all = {name: before(kinds[name]).keeps_all for name in strategies}
    needs_the_mean = {"FedAvg", "FedProx", "FedAvgM", "FedAdam", "FedYogi", "FedAdagrad"}
    assert {name for name, keeps in keeps_all.items() if not keeps} == needs_the_mean


def test_a_second_answer_an_error_and_a_reply_without_images_carry_no_weight() -> None:
    strategy = Mean()
    replies = [
        answer(instruction(1), 1.0, 10.0),
        answer(instruction(1), 99.0, 10.0),
        crash(instruction(2)),
        answer(instruction(3), 7.0, 0.0),
    ]
    found = fold(strategy, replies)
    assert found is not None and value(found) == 1.0
    outcomes = {site: (node.outcome, node.reason) for site, node in strategy.record.nodes.items()}
    assert outcomes == {
        "node-1": ("contributed", None),
        "node-2": ("failed", "the disk is full"),
        "node-3": ("empty", "it holds no training image"),
    }


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"x": np.zeros((2, 1), np.float32), "none": np.zeros(0, np.float32)}, "array 'x' must be float32 [1, 2]"),
        ({"x": np.full((1, 2), math.nan, np.float32), "none": np.zeros(0, np.float32)}, "not finite"),
        ({"x": np.zeros((1, 2), np.float32)}, "1 missing"),
    ],
)
def test_a_reply_that_cannot_be_averaged_is_refused_with_its_reason(arrays: Weights, reason: str) -> None:
    strategy = Mean()
    bad = answer(instruction(2), 0.0, 1.0)
    bad.content["arrays"] = array_record(arrays)
    found = fold(strategy, [answer(instruction(1), 1.0, 1.0), bad])
    assert found is not None and value(found) == 1.0
    assert strategy.record.nodes["node-2"].outcome == "refused"
    assert reason in str(strategy.record.nodes["node-2"].reason)


def test_a_fault_of_ours_while_judging_costs_one_reply() -> None:
    class Stumbling(PlainWire):
        def read_reply(self, message: Message, site: str, *context: Any) -> Reply:
            if site == "node-2":
                raise ZeroDivisionError("private text")
            return super().read_reply(message, site, *context)

    strategy = Mean(setup=Setup(wire=Stumbling("num-examples", "arrays")))
    found = fold(strategy, [answer(instruction(node), node, 1.0) for node in (1, 2, 3)])
    assert found is not None and value(found) == 2.0
    assert strategy.record.nodes["node-2"].reason == "it could not be judged (ZeroDivisionError)"


def test_below_the_quorum_nothing_comes_out_and_the_record_says_why() -> None:
    strategy = Mean(setup=Setup(min_replies=2))
    assert fold(strategy, [answer(instruction(1), 1.0, 1.0), crash(instruction(2))]) is None
    assert strategy.record.reason == "1 of 3 nodes contributed, 'federation.min-replies' asks for 2"


def test_the_first_round_waits_until_it_is_known_how_long_an_update_is(tmp_path: Path) -> None:
    options = {"max-weight": 0, "max-share": 0, "max-update-norm-ratio": 10, "norm-window": 5}
    setup = Setup(admission=Admission(AdmissionOptions.model_validate(options)), run_folder=str(tmp_path))
    strategy = Mean(setup=setup)
    found = fold(strategy, [answer(instruction(node), change, 1.0) for node, change in ((1, 1e6), (2, 1.0), (3, 2.0))])
    assert found is not None and value(found) == 1.5
    assert strategy.record.nodes["node-1"].outcome == "refused" and not list(tmp_path.iterdir())


def test_what_a_strategy_computes_comes_back_in_the_models_own_dtypes() -> None:
    strategy = Adam()
    strategy.current_arrays = None
    strategy.configure_train(1, initial(), ConfigRecord(), _Nobody())  # type: ignore[arg-type]
    found = fold(strategy, [answer(instruction(node), node, 1.0) for node in (1, 2, 3)])
    assert found is not None
    assert {key: array.dtype for key, array in to_weights(found).items()} == {"x": np.float32, "none": np.float32}


class _Nobody:
    def get_node_ids(self) -> list[int]:
        return [1, 2]


def judging(max_share: float = 0.0) -> Mean:
    """Return a strategy whose sites made updates of length sqrt(2) in the round before."""
    options = {"max-weight": 0, "max-update-norm-ratio": 10.0, "norm-window": 5, "max-share": max_share}
    strategy = Mean(setup=Setup(admission=Admission(AdmissionOptions.model_validate(options))))
    fold(strategy, [answer(instruction(node), 1.0, 1.0) for node in (1, 2, 3)])
    return strategy


@pytest.mark.parametrize("max_share", [0.0, 0.5])
@pytest.mark.parametrize("order", [(1, 2, 3, 4, 5), (5, 4, 3, 2, 1), (3, 1, 4, 2, 5)])
def test_most_sites_of_a_round_are_never_shut_out_by_those_that_hardly_move(
    order: tuple[int, ...], max_share: float
) -> None:
    """Each site holds one class: two of them are done, and the three of the other class are far from it."""
    strategy = judging(max_share)
    changes = {1: 0.0625, 2: 0.0625, 3: 40.0, 4: 40.0, 5: 48.0}
    found = fold(strategy, [answer(instruction(node), changes[node], 1.0) for node in order], num_nodes=5)
    assert {node.outcome for node in strategy.record.nodes.values()} == {"contributed"}
    assert found is not None and value(found) == pytest.approx(sum(changes.values()) / 5)


@pytest.mark.parametrize("changes", [{1: 1.0, 2: 1.0, 3: 40.0, 4: 40.0}, {1: 1.0, 2: 40.0}, {1: 1.0, 2: 1.0, 3: 1e6}])
def test_half_of_a_round_or_less_cannot_say_how_long_an_update_may_be(changes: dict[int, float]) -> None:
    strategy = judging()
    found = fold(
        strategy, [answer(instruction(node), change, 1.0) for node, change in changes.items()], num_nodes=len(changes)
    )
    outcomes = {site: node.outcome for site, node in strategy.record.nodes.items()}
    assert outcomes == {f"node-{node}": "contributed" if one == 1.0 else "refused" for node, one in changes.items()}
    assert found is not None and value(found) == 1.0
    assert "of recent rounds" in str(strategy.record.nodes[f"node-{max(changes)}"].reason)


def test_among_the_many_whose_updates_are_long_one_that_is_far_longer_stays_refused() -> None:
    strategy = judging()
    changes = {1: 1.0, 2: 40.0, 3: 44.0, 4: 1e6}
    found = fold(strategy, [answer(instruction(node), change, 1.0) for node, change in changes.items()], num_nodes=4)
    assert [site for site, node in strategy.record.nodes.items() if node.outcome == "refused"] == ["node-4"]
    assert "of this round" in str(strategy.record.nodes["node-4"].reason)
    assert found is not None and value(found) == pytest.approx(85.0 / 3.0)
