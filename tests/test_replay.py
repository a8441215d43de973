"""Runs in which nodes train on images of the run's diffusion model, for the classes that they lack."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from safetensors.torch import load_file

from fl_app import evaluation
from fl_app.errors import OptionError
from fl_app.messages.arrays import pack, unpack
from fl_app.messages.replay import DRAW
from fl_app.options.sections import OptionValue
from fl_app.runs.folder import RunFolder
from tests.federation import run_federation
from tests.options import run_config
from tests.tiny import tiny_run

pytestmark = pytest.mark.usefixtures("undrawn")

REPLAY: dict[str, OptionValue] = {
    "tasks": "diffusion,classification",
    "classification.replay": "generated",
    "classification.replay-images": 5,
    "partition.scheme": "pathological",
    "partition.classes-per-node": 3,
    "data.limit": 90,
}


def weights(tmp_path: Path) -> dict[str, np.ndarray[Any, Any]]:
    found = RunFolder(tmp_path / "run").last_checkpoint("classification")
    assert found is not None
    return found.models["raw"]


def differs(one: dict[str, np.ndarray[Any, Any]], other: dict[str, np.ndarray[Any, Any]]) -> bool:
    return any(not np.array_equal(one[key], other[key]) for key in one)


def drawn_counts(replies: list[Message]) -> list[list[float]]:
    return [unpack(reply.content.array_records["statistics"])["drawn"].tolist() for reply in replies]


def test_each_node_draws_what_it_lacks_once_and_nothing_that_nobody_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = np.arange(10) != 4
    monkeypatch.setattr(evaluation, "held_classes", lambda folder: held.tolist())
    replies: list[Message] = []
    kept: dict[str, int] = {}

    def note(instruction: Message, reply: Message) -> Message:
        if instruction.metadata.message_type == DRAW:
            replies.append(reply)
        found = (tmp_path / "run/nodes").glob("generated-*.safetensors")
        kept.update({path.name: len(load_file(path)["images"]) for path in found})
        return reply

    run_federation(tiny_run(tmp_path, {**REPLAY, "seed": 1}), 2, meddle=note)
    nodes = json.loads((tmp_path / "run/run.json").read_text())["nodes"]
    assert len(replies) == 2
    for site, counts in zip(sorted(nodes), drawn_counts(replies), strict=True):
        own = np.array(nodes[site]["train"])
        assert counts == np.where(held, np.minimum(5, own.max() - own), 0).tolist()
    assert sorted(kept.values()) == [5] * int(held.sum())  # both nodes use the same ones
    assert differs(weights(tmp_path), _without_replay(tmp_path))


def _without_replay(tmp_path: Path) -> dict[str, np.ndarray[Any, Any]]:
    run_federation(tiny_run(tmp_path / "plain", {**REPLAY, "seed": 1, "classification.replay": "none"}), 2)
    return weights(tmp_path / "plain")


def test_a_node_that_draws_nothing_trains_on_its_own_images(tmp_path: Path) -> None:
    """The time is over before the first image."""
    slow = {**REPLAY, "seed": 1, "classification.replay-seconds": 1e-9}
    run_federation(tiny_run(tmp_path, slow), 2)
    assert not differs(weights(tmp_path), _without_replay(tmp_path))


@pytest.mark.parametrize("kind", ["oversample", "class-weights", "logit-adjusted"])
def test_cheap_controls_ask_nobody_and_change_the_training(tmp_path: Path, kind: str) -> None:
    options: dict[str, OptionValue] = {
        "tasks": "classification",
        "partition.scheme": "dirichlet",
        "partition.alpha": 0.3,
    }
    run_federation(tiny_run(tmp_path / "plain", options), 2)
    grid = run_federation(tiny_run(tmp_path, {**options, "classification.replay": kind}), 2)
    assert DRAW not in {message.metadata.message_type for message in grid.sent}
    assert differs(weights(tmp_path), weights(tmp_path / "plain"))


def test_a_site_that_lies_about_what_it_drew_is_named_and_the_run_goes_on(tmp_path: Path) -> None:
    def lie(instruction: Message, reply: Message) -> Message:
        if instruction.metadata.message_type == DRAW and instruction.metadata.dst_node_id == 1000:
            reply.content["statistics"] = pack({"drawn": np.full(10, 1e6)})
        return reply

    run_federation(tiny_run(tmp_path, REPLAY), 2, meddle=lie)
    found = json.loads((tmp_path / "run/status.json").read_text())
    assert found["state"] == "degraded" and "site-0" in found["reason"]


def test_a_run_without_a_diffusion_model_before_the_classifier_cannot_replay_its_images() -> None:
    for tasks in ("classification", "classification,diffusion"):
        with pytest.raises(OptionError, match="tasks must name diffusion before classification"):
            run_config({"tasks": tasks, "classification.replay": "generated"})


def test_a_quarantined_model_draws_nothing_for_other_hospitals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "quarantine_of", lambda folder: "it knows its training images")
    grid = run_federation(tiny_run(tmp_path, REPLAY), 2)
    assert DRAW not in {message.metadata.message_type for message in grid.sent}
    found = json.loads((tmp_path / "run/status.json").read_text())
    assert "since the diffusion model is quarantined" in found["reason"]


def test_a_site_that_was_away_draws_when_it_comes_and_the_others_are_not_asked_again(tmp_path: Path) -> None:
    options: dict[str, OptionValue] = {**REPLAY, "classification.num-rounds": 3, "federation.min-nodes": 1}

    def away(number: int, sent: Sequence[Message]) -> bool:
        asked = [one for one in sent if one.metadata.message_type in ("evaluate", "query.draw")]
        trained = [one for one in sent if one.metadata.message_type == "train" and _task_of(one) == "classification"]
        return number == 1 and bool(asked) and not trained

    grid = run_federation(tiny_run(tmp_path, options), 2, is_away=away)
    drew = [one.metadata.dst_node_id for one in grid.sent if one.metadata.message_type == DRAW]
    assert drew == [1000, 1001]


def _task_of(message: Message) -> str:
    return str(message.content.config_records["config"]["task"])
