"""A hospital's node answers a membership audit once, after the last round, about weights that it has trained."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from fl_app.diffusion.task import DiffusionTask
from fl_app.files import to_json
from fl_app.messages.arrays import unpack
from fl_app.messages.records import EVALUATE, MEMBERSHIP, MOMENTS, TRAIN
from fl_app.node.distances import length
from fl_app.node.history import ALWAYS_ALLOWED
from fl_app.options.node import NodeConfig
from fl_app.options.sections import OptionValue
from fl_app.runs.audit import read_audit
from fl_app.tasks import initial_weights
from tests.data.conftest import write_images
from tests.federation import run_federation
from tests.node.test_history import NUM_ROUNDS, Hospital, moved, refused
from tests.tiny import tiny_run

DIFFUSION: dict[str, OptionValue] = {
    "tasks": "diffusion",
    "diffusion.num-rounds": NUM_ROUNDS,
    "diffusion.block-channels": "8,8",
}
ONE = {"task": "diffusion"}


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path, DIFFUSION)


def own_weights(hospital: Hospital) -> dict[str, Tensor]:
    return initial_weights(hospital.task("diffusion"), 0)


def test_it_is_answered_after_the_last_round_by_a_node_that_saw_the_first(hospital: Hospital) -> None:
    own = own_weights(hospital)
    hospital.ask(TRAIN, 1, own, **ONE)
    hospital.ask(EVALUATE, 0, own, **ONE)
    for number in (0, 1, NUM_ROUNDS - 1, NUM_ROUNDS + 1):
        assert f"run asks after round {NUM_ROUNDS}" in refused(hospital, MEMBERSHIP, number, own, **ONE)
    hospital.ask(MEMBERSHIP, NUM_ROUNDS, own, **ONE)
    assert "has not seen round 1" in refused(hospital, MEMBERSHIP, NUM_ROUNDS, own, run="never-trained", **ONE)
    hospital.ask(TRAIN, 5, own, run="late", **ONE)
    hospital.ask(EVALUATE, 0, own, run="late", **ONE)
    assert "'late-joining' is true" in refused(hospital, MEMBERSHIP, NUM_ROUNDS, own, run="late", **ONE)


def test_a_run_without_an_audit_may_not_ask_for_one(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, {**DIFFUSION, "audit.membership": False})
    own = own_weights(hospital)
    hospital.ask(TRAIN, 1, own, **ONE)
    assert "the run asks nothing of this kind" in refused(hospital, MEMBERSHIP, NUM_ROUNDS, own, **ONE)


def test_it_brings_no_further_weights(hospital: Hospital) -> None:
    own = own_weights(hospital)
    hospital.ask(TRAIN, 1, own, **ONE)
    for name in ("ema", "node_ema", "initial"):
        more: dict[str, Any] = {**ONE, name: own}
        assert "which has none. Send the weights alone" in refused(hospital, MEMBERSHIP, NUM_ROUNDS, own, **more)


def test_its_weights_lie_near_those_that_the_node_has_trained_and_do_not_stand_for_them(hospital: Hospital) -> None:
    own = own_weights(hospital)
    step = ALWAYS_ALLOWED * length(own)
    hospital.ask(TRAIN, 1, own, **ONE)
    hospital.ask(MEMBERSHIP, NUM_ROUNDS, moved(own, 5 * step), **ONE)  # an average may lie some rounds behind
    assert "away from the last ones" in refused(hospital, MEMBERSHIP, NUM_ROUNDS, moved(own, 25 * step), **ONE)
    refused(hospital, TRAIN, 2, moved(own, 5 * step), **ONE)
    hospital.ask(TRAIN, 2, own, **ONE)


def test_the_counts_are_made_once_whatever_the_weights_of_a_second_question(hospital: Hospital) -> None:
    own = own_weights(hospital)
    hospital.ask(TRAIN, 1, own, **ONE)

    def answer(value: float, step: float) -> float:
        history = hospital.ask(MEMBERSHIP, NUM_ROUNDS, moved(own, step), **ONE)
        counted = history.answer(lambda: {"loss/train": np.array([value])})
        return float(counted["loss/train"][0])

    assert [answer(1.0, 0.1), answer(2.0, 0.2), answer(3.0, 0.3)] == [1.0, 1.0, 1.0]


def test_a_task_without_an_audit_says_so(tmp_path: Path) -> None:
    own = Hospital(tmp_path).initial()
    hospital = Hospital(tmp_path)
    hospital.ask(TRAIN, 1, own)
    hospital.ask(MOMENTS, 4, own)
    grid = run_federation(tiny_run(tmp_path, {"tasks": "classification", "classification.num-rounds": 1}), 2)
    message = next(one for one in grid.sent if one.metadata.message_type == MOMENTS)
    message.metadata.message_type = MEMBERSHIP
    reply = grid._answer(message)
    assert reply.has_error() and "the task 'classification' has no membership audit" in str(reply.error.reason)


def test_parts_below_a_hospitals_minimums_are_not_scored_and_no_image_is_scored_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = {
        number: {
            "data-path": str(write_images(tmp_path / site, counts)),
            "site": site,
            "state-dir": str(tmp_path / "s"),
        }
        for number, (site, counts) in enumerate({"large": {"a": 60, "b": 60}, "small": {"a": 14, "b": 14}}.items())
    }
    run: dict[str, OptionValue] = {
        "data.source": "folder", "data.class-names": "a,b", "data.num-channels": 1, "data.image-size": 8,
        "data.limit": 0, "diffusion.num-rounds": 1, "audit.membership": True, "federation.min-replies": 1,
    }  # fmt: skip
    answers = {}

    def note(instruction: Any, reply: Any) -> Any:
        if instruction.metadata.message_type == MEMBERSHIP:
            sums = unpack(reply.content.array_records["statistics"])
            answers[reply.content["node"]["site"]] = {key: int(value.sum()) for key, value in sums.items()}
        return reply

    grid = run_federation(tiny_run(tmp_path / "runs", run), 2, node_options=nodes, meddle=note)
    fewest = NodeConfig()
    for site, counts in answers.items():
        for key, count in counts.items():
            minimum = fewest.min_images if key.endswith("train") else fewest.min_held_out
            assert count == 0 or count >= minimum, f"{site} {key}"
    assert answers["large"]["loss/train"] > 0 and 0 in answers["small"].values()
    found = read_audit(tmp_path / "runs" / "run")
    assert found is not None and found.membership.num_train == sum(one["loss/train"] for one in answers.values())
    assert to_json(found)["left-out"] == {}

    def fail(*_: object) -> None:
        raise AssertionError("the images are scored again")

    monkeypatch.setattr(DiffusionTask, "membership", fail)
    for question in [one for one in grid.sent if one.metadata.message_type == MEMBERSHIP]:
        again = unpack(grid._answer(question).content.array_records["statistics"])
        site = nodes[question.metadata.dst_node_id - 1000]["site"]
        assert {key: int(value.sum()) for key, value in again.items()} == answers[site]
