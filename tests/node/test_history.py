"""A hospital's node takes only weights that its study, or its own past, leads to, and answers an exchange once."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fl_app.data.images import DatasetInfo, no_images
from fl_app.logs import LONGEST_REASON
from fl_app.messages.records import EVALUATE, HEADS, MOMENTS, TRAIN, Instruction
from fl_app.node.answering import Node
from fl_app.node.distances import distance, length
from fl_app.node.history import ALWAYS_ALLOWED, MOST_LENGTHS, MOST_STEPS, History, check_weights
from fl_app.node.images import LocalData
from fl_app.node.permissions import NotAllowedError
from fl_app.options.node import NodeConfig
from fl_app.options.sections import OptionValue
from fl_app.tasks import Task, build_task, initial_weights
from tests.options import run_config

INFO = DatasetInfo(("a", "b"), 1, 8)
NUM_ROUNDS = 10

Weights = dict[str, Tensor]


class Hospital:
    """A node that is asked without images."""

    def __init__(self, state: Path, run: dict[str, OptionValue] | None = None, **own: Any) -> None:
        self.state = state
        self.config = run_config(
            {
                "tasks": "classification",
                "classification.num-rounds": NUM_ROUNDS,
                "classification.prototype-rounds": "4",
                "classification.embedding-size": 8,
                **(run or {}),
            }
        )
        named = {name.replace("_", "-"): value for name, value in own.items()}
        options = NodeConfig.from_flat({"data-path": "/images", "site": "north", "state-dir": str(state), **named})
        nothing = no_images(INFO)
        data = LocalData("north", nothing, nothing, nothing)
        self.node = Node(self.config, options, data, torch.device("cpu"))

    def task(self, name: str = "classification") -> Task:
        return build_task(name, self.config, INFO)

    def initial(self) -> Weights:
        return initial_weights(self.task(), self.config.seed)

    def ask(
        self,
        kind: str,
        round_number: int,
        weights: Weights,
        *,
        run: str = "run",
        task: str = "classification",
        **more: Any,
    ) -> History:
        instruction = Instruction(task, round_number, run, "", weights, **more)
        return check_weights(self.task(task), self.node, instruction, kind)


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path)


def moved(weights: Weights, step: float, seed: int = 0) -> Weights:
    """Return weights that are some distance away, in a random direction."""
    generator = torch.Generator().manual_seed(seed)
    away = {key: torch.randn(value.shape, generator=generator) for key, value in weights.items()}
    scale = step / length(away)
    return {key: value + scale * away[key] for key, value in weights.items()}


def refused(hospital: Hospital, *arguments: Any, **named: Any) -> str:
    with pytest.raises(NotAllowedError) as caught:
        hospital.ask(*arguments, **named)
    assert len(caught.value.public) <= LONGEST_REASON and str(hospital.state) not in caught.value.public
    return caught.value.public


@pytest.mark.parametrize(
    ("task", "name"), [("classification", "weights"), ("diffusion", "ema"), ("diffusion", "node_ema")]
)
def test_the_first_round_begins_with_the_weights_of_the_seed_and_with_no_others(
    tmp_path: Path, task: str, name: str
) -> None:
    hospital = Hospital(tmp_path, {"tasks": task, "diffusion.block-channels": "8,8"})
    own = initial_weights(hospital.task(task), 0)
    one = next(reversed(own))
    off = {key: value + (2e-6 if key == one else 0.0) for key, value in own.items()}
    near = {key: value + (5e-7 if key == one else 0.0) for key, value in own.items()}
    for weights in (own, near):
        models: dict[str, Any] = {"weights": own, name: weights}
        hospital.ask(TRAIN, 1, task=task, **models)
    said = refused(hospital, TRAIN, 1, task=task, **{"weights": own, name: off})
    assert "differ by up to 2e-06 from those of seed 0, at most 1e-06 is allowed" in said


def test_large_weights_are_compared_by_their_own_size(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    own = hospital.initial()
    large = {key: torch.full_like(value, 1000.0) for key, value in own.items()}
    monkeypatch.setattr("fl_app.node.history.initial_weights", lambda task, seed: large)
    hospital.ask(TRAIN, 1, {key: value * (1 + 9e-7) for key, value in large.items()})
    refused(hospital, TRAIN, 1, {key: value * (1 + 3e-6) for key, value in large.items()})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused_in_every_round(hospital: Hospital, value: float) -> None:
    own = hospital.initial()
    near = {key: one + 5e-7 for key, one in own.items()}
    broken = {**near, "linear.bias": torch.full_like(own["linear.bias"], value)}
    refused(hospital, TRAIN, 1, broken)
    hospital.ask(TRAIN, 1, own)
    refused(hospital, TRAIN, 2, broken)


def test_weights_of_another_network_are_refused(hospital: Hospital) -> None:
    own = hospital.initial()
    other = {**own, "linear.bias": torch.zeros(3)}
    assert "of another network" in refused(hospital, TRAIN, 1, other)
    hospital.ask(TRAIN, 1, own)
    refused(hospital, TRAIN, 2, other)


def test_the_initial_weights_are_checked_whenever_a_message_holds_them(hospital: Hospital) -> None:
    own = hospital.initial()
    hospital.ask(TRAIN, 1, own)
    hospital.ask(EVALUATE, 0, own, initial=own)
    refused(hospital, EVALUATE, 0, own, initial=moved(own, 0.1))


def test_a_step_is_bounded_by_the_longest_one_that_the_node_has_seen(hospital: Hospital) -> None:
    own = hospital.initial()
    trained = 0.3 * length(own)
    hospital.ask(TRAIN, 1, own).note_update(own, moved(own, trained))
    said = refused(hospital, TRAIN, 2, moved(own, 1.01 * MOST_STEPS * trained))
    assert f"at most {MOST_STEPS * trained:.3g} is allowed" in said
    hospital.ask(TRAIN, 2, moved(own, 0.99 * MOST_STEPS * trained))


def test_a_step_that_was_accepted_allows_longer_ones_and_a_refused_one_does_not(hospital: Hospital) -> None:
    own = hospital.initial()
    step = 0.99 * ALWAYS_ALLOWED * length(own)
    hospital.ask(TRAIN, 1, own)
    refused(hospital, TRAIN, 2, moved(own, 2 * step))
    refused(hospital, TRAIN, 2, moved(own, 2 * step))
    after = moved(own, step)
    hospital.ask(TRAIN, 2, after)
    hospital.ask(TRAIN, 3, moved(after, 2 * step, seed=1))


def test_each_missed_round_allows_a_step_and_no_number_of_them_allows_any_weights(hospital: Hospital) -> None:
    own = hospital.initial()
    step = ALWAYS_ALLOWED * length(own)
    hospital.ask(TRAIN, 1, own)
    refused(hospital, TRAIN, 5, moved(own, 4.1 * step))
    hospital.ask(TRAIN, 5, moved(own, 3.9 * step))
    other = Hospital(hospital.state / "other", {"classification.num-rounds": 1000})
    other.ask(TRAIN, 1, own)
    refused(other, TRAIN, 1000, moved(own, 1.01 * MOST_LENGTHS * length(own)))
    other.ask(TRAIN, 1000, moved(own, 0.99 * MOST_LENGTHS * length(own)))


def test_a_run_that_is_resumed_from_older_or_newer_weights_goes_on(hospital: Hospital) -> None:
    path = [hospital.initial()]
    step = 0.9 * ALWAYS_ALLOWED * length(path[0])
    for number in range(8):
        path.append(moved(path[-1], step, seed=number))
    for number in (1, 2, 3, 4, 5):
        hospital.ask(TRAIN, number, path[number - 1])
    for number in (3, 4, 8, 5):  # an older checkpoint; a newer one than the node has seen; an older one again
        hospital.ask(TRAIN, number, path[number - 1])


def test_averages_may_lag_behind_by_all_rounds_so_far(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, {"tasks": "diffusion", "diffusion.block-channels": "8,8"})
    own = initial_weights(hospital.task("diffusion"), 0)
    one, path = next(reversed(own)), [own]
    for number in range(3):
        path.append({**path[-1], one: path[-1][one] + 0.1 * ALWAYS_ALLOWED * length(own)})
        hospital.ask(TRAIN, number + 1, path[number], ema=path[0], node_ema=path[number // 2], task="diffusion")
    far = {**path[2], one: path[2][one] + 5 * ALWAYS_ALLOWED * length(own)}
    refused(hospital, TRAIN, 3, path[2], ema=far, task="diffusion")


def test_a_message_asks_only_what_the_options_lead_to(hospital: Hospital) -> None:
    own = hospital.initial()
    hospital.ask(TRAIN, 1, own)
    unasked = "which has none. Send the weights alone"
    for name in ("ema", "node_ema", "initial"):
        more: dict[str, Any] = {name: own}
        assert unasked in refused(hospital, TRAIN, 2, own, **more)
    assert unasked in refused(hospital, EVALUATE, 0, own, ema=own)
    assert "of round 0. Send 0" in refused(hospital, EVALUATE, 7, own)
    for mu in (0.01, 1e6):
        assert "FedAvg with the run's 'strategy.proximal-mu' allows 0" in refused(
            hospital, TRAIN, 2, own, proximal_mu=mu
        )
    prox = Hospital(hospital.state, {"classification.strategy": "FedProx", "strategy.proximal-mu": 0.25})
    assert "allows 0.25" in refused(prox, TRAIN, 1, own, proximal_mu=1e6)
    prox.ask(TRAIN, 1, own, proximal_mu=0.25)
    hospital.ask(TRAIN, 1, own)
    last = hospital.task().options.num_rounds
    for name in ("consistent/x17", "other/lda", "consistent/lda"):
        heads = {f"{name}/weight": np.zeros((2, 2))}
        if name == "consistent/lda":
            hospital.ask(HEADS, last, own, heads=heads)
        else:
            assert f"the head '{name}'" in refused(hospital, HEADS, last, own, heads=heads)
    assert "the head 'consistent/x17'" in refused(hospital, HEADS, last, own, left_out={"x17/weight": np.zeros((2, 2))})


def test_an_earlier_run_of_the_same_name_with_other_options_is_forgotten(hospital: Hospital) -> None:
    own = hospital.initial()
    hospital.ask(TRAIN, 1, own)
    other = Hospital(hospital.state, {"seed": 1})
    assert "has not seen round 1" in refused(other, MOMENTS, other.task().options.num_rounds, other.initial())


def test_a_history_survives_the_process_and_is_closed_to_other_users(hospital: Hospital) -> None:
    own = hospital.initial()
    hospital.ask(TRAIN, 1, own).note_update(own, moved(own, 1.0))
    again = Hospital(hospital.state)
    again.ask(MOMENTS, 4, own)
    refused(again, MOMENTS, 4, moved(own, 5 * length(own)))
    files = sorted((hospital.state / "run" / "north" / "classification").iterdir())
    assert [path.name for path in files] == ["history.json", "history.safetensors"]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


@pytest.mark.parametrize("kind", [MOMENTS, HEADS, EVALUATE])
def test_a_node_that_has_not_seen_the_first_round_trains_and_sends_no_sums_by_class(
    hospital: Hospital, kind: str
) -> None:
    own = hospital.initial()
    after = moved(own, 0.3 * length(own))
    assert hospital.ask(TRAIN, 5, after).is_late
    assert hospital.ask(TRAIN, 6, after).is_late
    number = 0 if kind == EVALUATE else NUM_ROUNDS
    assert "has not seen round 1" in refused(hospital, kind, number, after)
    assert "'late-joining' is true" in refused(hospital, kind, number, after, run="never-trained")


@pytest.mark.parametrize("option", [{"late-joining": True}, {"federation.nodes-per-round": 2}])
def test_the_study_may_allow_late_joining_also_in_a_run_that_is_resumed(
    hospital: Hospital, option: dict[str, OptionValue]
) -> None:
    own = hospital.initial()
    hospital.ask(TRAIN, 5, own)
    allowed = Hospital(hospital.state, option)
    assert not allowed.ask(TRAIN, 6, own).is_late
    allowed.ask(MOMENTS, NUM_ROUNDS, own)
    allowed.ask(MOMENTS, NUM_ROUNDS, own, run="never-trained")


def test_also_a_node_that_joins_late_takes_no_weights_far_from_those_of_the_seed(hospital: Hospital) -> None:
    own = hospital.initial()
    step = ALWAYS_ALLOWED * length(own)
    assert "away from those that the seed gives" in refused(hospital, TRAIN, 3, moved(own, 2.1 * step))
    hospital.ask(TRAIN, 3, moved(own, 1.9 * step))


def test_held_out_losses_of_a_diffusion_model_are_not_by_class_so_a_late_node_sends_them(tmp_path: Path) -> None:
    node = Hospital(tmp_path, {"tasks": "diffusion", "diffusion.block-channels": "8,8", "diffusion.num-rounds": 4})
    own = initial_weights(node.task("diffusion"), 0)
    assert not node.ask(TRAIN, 2, own, task="diffusion").is_late
    node.ask(EVALUATE, 0, own, task="diffusion")


def test_a_late_node_shows_no_image(hospital: Hospital) -> None:
    images = dataclasses.replace(
        no_images(INFO), images=torch.zeros(3, 1, 8, 8, dtype=torch.uint8), labels=torch.tensor([0, 1, 0])
    )
    own = hospital.initial()
    assert len(hospital.ask(TRAIN, 2, own).shown(images)) == 0
    assert len(hospital.ask(TRAIN, 1, own).shown(images)) == 3


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_history_is_no_history_and_the_log_says_so(
    hospital: Hospital, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    own = hospital.initial()
    hospital.ask(TRAIN, 1, own)
    path = hospital.state / "run" / "north" / "classification" / "history.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:100] if damage == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    with caplog.at_level(logging.WARNING):
        assert hospital.ask(TRAIN, 2, own).is_late
    assert "is damaged" in caplog.text


def test_damaged_steps_are_forgotten_and_the_history_goes_on(
    hospital: Hospital, caplog: pytest.LogCaptureFixture
) -> None:
    own = hospital.initial()
    hospital.ask(TRAIN, 1, own).note_update(own, moved(own, length(own)))
    (hospital.state / "run" / "north" / "classification" / "history.json").write_text('{"longest-step": "x"')
    with caplog.at_level(logging.WARNING):
        assert not hospital.ask(TRAIN, 2, moved(own, 0.1)).is_late
    assert "the node forgets how long earlier steps were" in caplog.text


def test_each_task_and_each_run_has_a_history_of_its_own(tmp_path: Path) -> None:
    node = Hospital(tmp_path, {"classification.baselines": "FedMedian,local"})
    own = node.initial()
    node.ask(TRAIN, 1, own)
    assert node.ask(TRAIN, 2, own, task="classification-fedmedian").is_late
    assert node.ask(TRAIN, 2, own, run="other").is_late
    assert not node.ask(TRAIN, 2, own).is_late


def test_a_run_that_begins_anew_has_a_new_history(hospital: Hospital) -> None:
    own = hospital.initial()
    hospital.ask(TRAIN, 1, own).note_update(own, moved(own, length(own)))
    hospital.ask(TRAIN, 2, moved(own, 2 * length(own)))
    hospital.ask(TRAIN, 1, own)
    refused(hospital, TRAIN, 2, moved(own, 2 * length(own)))


def test_without_room_for_its_history_a_node_trains_and_later_knows_nothing_of_the_round(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").write_text("a file in the folder's place")
    node = Hospital(tmp_path)
    own = node.initial()
    with caplog.at_level(logging.WARNING):
        node.ask(TRAIN, 1, own).note_update(own, moved(own, 1.0))
        assert node.ask(TRAIN, 2, own).is_late
    assert "cannot be kept" in caplog.text
    refused(node, MOMENTS, NUM_ROUNDS, own)


def test_a_simulated_node_and_one_without_the_check_take_everything_and_write_nothing(tmp_path: Path) -> None:
    node = Hospital(tmp_path, check_weights=False)
    simulated = Hospital(tmp_path, data_path="", site="", partition_id=0, num_partitions=2)
    for one in (node, simulated):
        far = moved(one.initial(), 1e6)
        for kind, number in ((TRAIN, 1), (TRAIN, 99), (MOMENTS, 3), (EVALUATE, 0)):
            history = one.ask(kind, number, far)
            history.note_update(far, far)
            assert not history.is_late and history.answer(dict) == {}
    assert list(tmp_path.iterdir()) == []


def test_the_distance_is_that_of_all_numbers_but_integers() -> None:
    one = {"weight": torch.tensor([3.0, 0.0]), "mean": torch.tensor([4.0]), "batches": torch.tensor(9)}
    other = {"weight": torch.tensor([0.0, 0.0]), "mean": torch.tensor([0.0]), "batches": torch.tensor(0)}
    assert distance(one, other) == 5.0 and length(one) == 5.0 and length({}) == 0.0
