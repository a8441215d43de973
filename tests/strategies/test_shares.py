"""One site's share of the average: the warning, and the cap."""

import itertools
import logging
from pathlib import Path

import numpy as np
import pytest
from flwr.serverapp.strategy import FedAvg, MultiKrum
from hypothesis import given
from hypothesis import strategies as st

from fl_app.options.federation import AdmissionOptions
from fl_app.strategies.admission import Admission
from fl_app.strategies.setup import Setup
from fl_app.strategies.shares import cap_of, carries_most, warn_of_giants
from fl_app.strategies.streaming import Streaming
from tests.strategies.rounds import answer, value
from tests.strategies.test_streaming import Mean, before, fold, instruction

WEIGHTS = st.lists(st.integers(1, 10**6), min_size=1, max_size=8)
SHARES = st.floats(0.01, 0.99)


@given(WEIGHTS, SHARES)
def test_no_site_has_more_than_its_share_or_all_have_the_same(weights: list[int], share: float) -> None:
    capped = [min(weight, cap_of(weights, share)) for weight in weights]
    assert max(capped) <= share * sum(capped) * (1 + 1e-9) or len(set(capped)) == 1
    assert all(weight == int(weight) and weight > 0 for weight in capped)


@given(WEIGHTS, SHARES)
def test_the_cap_takes_no_more_than_it_must_and_knows_no_order(weights: list[int], share: float) -> None:
    cap = cap_of(weights, share)
    assert cap == cap_of(weights[::-1], share)
    if cap < max(weights) and len(weights) * share > 1:
        more = [min(weight, cap + 1) for weight in weights]
        assert max(more) > share * sum(more) * (1 - 1e-9)


def test_caps_worked_by_hand() -> None:
    assert cap_of([900, 50, 50], 0.5) == 100  # 100 / 200
    assert cap_of([900, 600, 50, 50], 0.4) == 200  # two are capped: 0.4 * 100 / 0.2; 200 / 500
    assert cap_of([900, 100], 0.25) == 100  # two sites cannot have a quarter each
    assert (
        cap_of([50, 50, 50], 0.5) == cap_of([900, 1], 0.0) == cap_of([900, 1], 1.0) == cap_of([], 0.5) == float("inf")
    )


def capped(kind: type[Streaming], share: float, folder: Path, norm_ratio: float = 0.0) -> Streaming:
    options = {"max-weight": 0, "max-share": share, "max-update-norm-ratio": norm_ratio, "norm-window": 5}
    return kind(setup=Setup(admission=Admission(AdmissionOptions.model_validate(options)), run_folder=str(folder)))


def test_a_site_above_its_share_counts_with_less_weight_whatever_the_order_and_the_other_replies(
    tmp_path: Path,
) -> None:
    sent = [(1, 1.0, 900.0), (2, 2.0, 50.0), (3, 4.0, 50.0)]
    for order in itertools.permutations(sent):
        strategy = capped(Mean, 0.5, tmp_path)
        found = fold(strategy, [answer(instruction(node), change, images) for node, change, images in order])
        assert found is not None and value(found) == (1.0 * 100 + 2.0 * 50 + 4.0 * 50) / 200
        assert strategy.record.nodes["node-1"].images == 900.0 == strategy.admission.trained_on["node-1"]
    found = fold(capped(Mean, 0.5, tmp_path), [answer(instruction(node), node, 10.0 * node) for node in (1, 2)])
    assert found is not None and value(found) == 1.5  # of those that answered, not of those that were asked
    assert not list(tmp_path.iterdir())


def test_a_reply_that_is_refused_in_the_first_round_leaves_the_others_their_weight(tmp_path: Path) -> None:
    sent = [(1, 1e6, 10.0**6), (2, 1.0, 20.0), (3, 4.0, 10.0)]
    strategy = capped(Mean, 0.7, tmp_path, norm_ratio=10.0)
    found = fold(strategy, [answer(instruction(node), change, images) for node, change, images in sent])
    assert found is not None and value(found) == 2.0 and strategy.record.nodes["node-1"].outcome == "refused"


def test_a_strategy_that_gets_all_replies_gets_the_capped_weights(tmp_path: Path) -> None:
    sent = [(1, 1.0, 900.0), (2, 2.0, 50.0), (3, 4.0, 50.0)]
    strategy = before(MultiKrum)
    kept = capped(strategy, 0.5, tmp_path)
    kept.num_malicious_nodes, kept.num_nodes_to_select = 0, 3  # type: ignore[attr-defined]
    found = fold(kept, [answer(instruction(node), change, images) for node, change, images in sent])
    assert found is not None and value(found) == np.float32(2.0)


def test_without_a_cap_nothing_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fl_app.strategies.streaming.WaitingReplies", None)
    found = fold(capped(before(FedAvg), 0.0, tmp_path), [answer(instruction(1), 1.0, 900.0)])
    assert found is not None and value(found) == 1.0


def test_a_site_carries_most_with_more_than_half_of_three_sites_or_nine_tenths_of_two() -> None:
    assert carries_most({"a": 51, "b": 25, "c": 24}) == "a" and carries_most({"a": 50, "b": 25, "c": 25}) is None
    assert carries_most({"a": 91, "b": 9}) == "a" and carries_most({"a": 90, "b": 10}) is None
    assert carries_most({"a": 91, "b": 9, "c": 0}) == "a" and carries_most({"a": 60, "b": 40, "c": 0}) is None
    assert carries_most({"a": 5}) is None and carries_most({"a": 0, "b": 0}) is None and carries_most({}) is None


def test_the_warning_names_the_site_its_share_and_the_option_that_caps_it(caplog: pytest.LogCaptureFixture) -> None:
    others = {name: {"train": [10, 5], "validation": [2, 1], "test": [1, 1]} for name in ("south", "west")}
    with caplog.at_level(logging.WARNING):
        warn_of_giants(others | {"north": {"train": [20, 10], "validation": [20, 10], "test": [1, 1]}})
        assert not caplog.records
        warn_of_giants(others | {"north": {"train": [50, 20], "validation": [90, 10], "test": [1, 1]}})
    assert "Site north says that it has 70 of all 100 training images, so it carries 70 % of the av" in caplog.text
    assert "'admission.max-share' caps its share" in caplog.text
    assert "Site north says that it has 100 held-out images, all other sites together 6: it alone" in caplog.text
