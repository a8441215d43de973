"""A run folder that was damaged: nothing goes on in silence, and no bad model is exported."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Error, Message
from safetensors.numpy import load_file, save_file

from fl_app.errors import FederationError, RunFolderError
from fl_app.files import write_manifest
from fl_app.options.sections import OptionValue
from tests.federation import run_federation
from tests.tiny import tiny_run

pytestmark = pytest.mark.usefixtures("undrawn")

ROUNDS = 4


def options(**changes: OptionValue) -> dict[str, OptionValue]:
    return {"diffusion.num-rounds": ROUNDS} | {key.replace("_", "-"): value for key, value in changes.items()}


def stop(output: Path, kind: str) -> Path:
    """Train, and stop in the last round, or in the final measurement; return the run folder."""

    def interrupt(instruction: Message, reply: Message) -> Message:
        config = instruction.content.config_records["config"] if instruction.has_content() else {}
        if instruction.metadata.message_type == kind and (kind != "train" or config["server-round"] == ROUNDS):
            raise KeyboardInterrupt
        return reply

    with pytest.raises(KeyboardInterrupt):
        run_federation(tiny_run(output, options()), 2, meddle=interrupt)
    return output / "run"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped in its last round; tests damage copies of it."""
    return stop(tmp_path_factory.mktemp("stopped"), "train")


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    return shutil.copytree(stopped, tmp_path / "run")


def resume(run: Path, **changes: OptionValue) -> dict[str, Any]:
    """Go on with a run, and return its status."""
    run_federation(tiny_run(run.parent, options(**changes) | {"resume": str(run)}), 2)
    return status(run)


def status(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "status.json").read_text())
    return found


def flip(file: Path, position: int = -1) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)


def failing(kinds: tuple[str, ...]) -> Any:
    def fail(instruction: Message, reply: Message) -> Message:
        is_chosen = instruction.metadata.message_type in kinds
        return Message(Error(2, "no"), reply_to=instruction) if is_chosen else reply

    return fail


@pytest.mark.parametrize("file", ["raw.safetensors", "server-optimizer.safetensors", "state.json", "SHA256SUMS"])
def test_a_flipped_bit_in_the_newest_checkpoint_is_refused_and_the_one_before_can_be_taken(
    run: Path, file: str
) -> None:
    newest = run / "diffusion/checkpoints/round-0003"
    flip(newest / file)
    with pytest.raises(RunFolderError, match="To go on after round 2, delete the folder round-0003 and resume"):
        resume(run)
    assert "round-0003 is damaged" in status(run)["reason"]
    shutil.rmtree(newest)
    assert resume(run)["state"] == "completed"


def test_a_flipped_bit_in_an_older_checkpoint_is_told(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    flip(run / "diffusion/checkpoints/round-0002/raw.safetensors")
    with caplog.at_level(logging.WARNING):
        assert resume(run)["state"] == "completed"
    assert "round-0002 is damaged: raw.safetensors is not as it was written" in caplog.text


def test_a_damaged_best_model_is_refused_and_can_be_done_without(run: Path) -> None:
    flip(run / "diffusion/checkpoints/best/raw.safetensors")
    with pytest.raises(RunFolderError, match="To resume without it, delete that folder"):
        resume(run)
    shutil.rmtree(run / "diffusion/checkpoints/best")
    assert resume(run)["state"] == "completed"
    assert (run / "diffusion/checkpoints/best/raw.safetensors").is_file()


WRONG_SHAPE = '{"task": "diffusion", "round": 2, "outcome": "ok", "ended": {}, "nodes": {}}'


@pytest.mark.parametrize("line", ['{"task": "diff', "null", '{"task": "diffusion", "round": 2}', WRONG_SHAPE, None])
def test_a_round_that_metrics_lost_is_named(run: Path, line: str | None) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    lines[1:2] = [] if line is None else [line]
    (run / "metrics.jsonl").write_text("".join(f"{one}\n" for one in lines))
    found = resume(run)
    assert found["state"] == "degraded"
    assert found["reason"] == "metrics.jsonl is damaged and lacks the figures of these rounds: diffusion 2"


@pytest.mark.parametrize("text", ["", "null", "[]", '{"state": '])
def test_a_damaged_status_is_told_and_the_run_goes_on(run: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    (run / "status.json").write_text(text)
    assert resume(run)["state"] == "completed"
    assert "status.json is damaged" in caplog.text


def test_a_finished_run_with_a_damaged_status_is_resumed_without_training(tmp_path: Path) -> None:
    run_federation(tiny_run(tmp_path, options()), 2)
    run = tmp_path / "run"
    metrics, model = ((run / name).read_bytes() for name in ("metrics.jsonl", "diffusion/model/SHA256SUMS"))
    (run / "status.json").write_text("{")
    assert resume(run)["state"] == "completed"
    assert [(run / name).read_bytes() for name in ("metrics.jsonl", "diffusion/model/SHA256SUMS")] == [metrics, model]


@pytest.mark.parametrize(("kind", "last"), [("train", 3), ("evaluate", 4)])
def test_a_model_with_a_weight_that_is_no_number_is_not_exported(
    run: Path, tmp_path: Path, kind: str, last: int
) -> None:
    run = run if kind == "train" else stop(tmp_path / "other", kind)
    newest = run / f"diffusion/checkpoints/round-{last:04d}"
    for file in newest.glob("*aw.safetensors"):
        arrays = load_file(file)
        arrays[max(arrays)] = np.full_like(arrays[max(arrays)], np.nan)
        save_file(arrays, file)
    write_manifest(newest)
    with pytest.raises(FederationError):
        resume(run, **{"federation.max_failed_rounds": 9})
    assert status(run)["state"] == "failed"
    assert not (run / "diffusion/model").exists()


@pytest.mark.parametrize(
    ("stopped_in", "number", "content"),
    [
        ("classification", 1, {"left-out": {"site-0": {"colour": "red"}}}),
        ("classification", 1, {"left-out": ["site-0"]}),
        ("classification-local", 2, {"left-out": {}}),
        ("classification-local", 2, {"results": None, "shipped": {}}),
    ],
)
def test_a_damaged_exchange_of_prototypes_is_refused_with_what_to_do(
    tmp_path: Path, stopped_in: str, number: int, content: dict[str, Any]
) -> None:
    changes: dict[str, OptionValue] = {
        "tasks": "classification",
        "classification.baselines": "local",
        "classification.prototype-rounds": "1",
    }

    def stop(instruction: Message, reply: Message) -> Message:
        config = instruction.content.config_records["config"] if instruction.has_content() else {}
        if config.get("task") == stopped_in and config["server-round"] == 2:
            raise KeyboardInterrupt
        return reply

    with pytest.raises(KeyboardInterrupt):
        run_federation(tiny_run(tmp_path, changes), 2, meddle=stop)
    run = tmp_path / "run"
    file = run / f"classification/prototypes/round-{number:04d}.json"
    assert file.is_file()
    file.write_text(json.dumps(content))
    with pytest.raises(RunFolderError, match=rf"{file.name} is damaged. Delete it and resume"):
        run_federation(tiny_run(tmp_path, changes | {"resume": str(run)}), 2)


def test_a_model_that_no_site_measured_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="no site measured it on its held-out images"):
        run_federation(tiny_run(tmp_path, options()), 2, meddle=failing(("evaluate",)))
    assert status(tmp_path / "run")["state"] == "failed"
    assert not (tmp_path / "run/diffusion/model").exists()


def test_where_nothing_is_held_out_the_training_losses_are_enough(tmp_path: Path) -> None:
    config = tiny_run(tmp_path, options(**{"data.validation_share": 0.0}))
    run_federation(config, 2)
    assert status(tmp_path / "run")["state"] == "completed"


def test_an_exported_model_that_is_damaged_is_exported_anew(tmp_path: Path) -> None:
    run_federation(tiny_run(tmp_path, options()), 2)
    run = tmp_path / "run"
    (run / "status.json").write_text(json.dumps(status(run) | {"state": "failed"}))
    file = next((run / "diffusion/model/unet").glob("*.safetensors"))
    whole = file.read_bytes()
    flip(file)
    assert resume(run)["state"] == "completed"
    assert file.read_bytes() == whole
