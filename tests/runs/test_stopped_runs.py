"""A run that stops between two checkpoints: no finished round is lost, and the status says how to go on."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Error, Message

from fl_app.errors import FederationError
from fl_app.options.sections import OptionValue
from fl_app.runs.folder import RunFolder
from tests.federation import run_federation
from tests.tiny import tiny_run

pytestmark = pytest.mark.usefixtures("undrawn")

OPTIONS: dict[str, OptionValue] = {"diffusion.num-rounds": 5, "checkpoint-every": 100, "diffusion.strategy": "FedAdam"}


def status(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "status.json").read_text())
    return found


def stopping(number: int, error: BaseException | None) -> Any:
    """Raise in a round, or let every node fail from then on."""

    def meddle(instruction: Message, reply: Message) -> Message:
        config = instruction.content.config_records.get("config") if instruction.has_content() else None
        if instruction.metadata.message_type != "train" or config is None:
            return reply
        if int(str(config["server-round"])) < number:
            return reply
        if error is not None:
            raise error
        return Message(Error(2, "out of memory"), reply_to=instruction)

    return meddle


def weights(folder: Path) -> dict[str, Any]:
    found = RunFolder(folder).last_checkpoint("diffusion")
    assert found is not None and found.round_number == 5
    return {key: value.tobytes() for key, value in found.models["raw"].items()}


def test_a_stopped_run_keeps_every_finished_round_and_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        run_federation(tiny_run(tmp_path / "a", OPTIONS), 2, meddle=stopping(4, SystemExit(0)))
    run = tmp_path / "a/run"
    assert status(run)["state"] == "failed"
    assert status(run)["reason"] == f'stopped; it can be resumed with resume = "{run}"'
    found = RunFolder(run).last_checkpoint("diffusion")
    assert found is not None and found.round_number == 3
    run_federation(tiny_run(tmp_path / "a", OPTIONS | {"resume": str(run)}), 2)
    run_federation(tiny_run(tmp_path / "b", OPTIONS), 2)
    assert weights(run) == weights(tmp_path / "b/run")
    assert [line.round for line in RunFolder(run).read_metrics()] == [1, 2, 3, 4, 5]


def test_a_run_that_fails_for_want_of_replies_keeps_its_rounds(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="3 rounds in a row failed"):
        run_federation(tiny_run(tmp_path, OPTIONS), 2, meddle=stopping(2, None))
    found = RunFolder(tmp_path / "run").last_checkpoint("diffusion")
    assert found is not None and found.round_number == 4
    assert len(RunFolder(tmp_path / "run").read_metrics()) == 4


def test_a_run_that_begins_again_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit):
        run_federation(tiny_run(tmp_path, OPTIONS), 2, meddle=stopping(3, SystemExit(0)))
    shutil.rmtree(tmp_path / "run/diffusion/checkpoints")  # as after kill -9 before the first one
    with caplog.at_level(logging.WARNING):
        run_federation(tiny_run(tmp_path, OPTIONS | {"resume": str(tmp_path / "run")}), 2)
    assert "No checkpoint of diffusion was saved: it begins again at round 1" in caplog.text
