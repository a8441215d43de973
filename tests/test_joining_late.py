"""A hospital that comes after round 1: it trains at once, and sends sums by class only if the study allows it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from fl_app.messages.arrays import unpack
from fl_app.messages.records import CONFIG, TRAIN
from fl_app.options.sections import OptionValue
from tests.federation import run_federation
from tests.test_hospitals import STATED, hospitals, read, write_learnable
from tests.tiny import tiny_run

pytestmark = pytest.mark.usefixtures("undrawn")

ALL_READINGS = "consistent,piggyback,local"


def join_late(tmp_path: Path, more: dict[str, OptionValue]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Let south come in round 2 of 3; return status.json's sites, and the sums of south's training replies."""
    for name in ("north", "south", "west"):
        write_learnable(tmp_path / name)
    sums: list[dict[str, Any]] = []

    def is_away(number: int, sent: Sequence[Message]) -> bool:
        return number == 1 and not any(message.metadata.message_type == TRAIN for message in sent)

    def keep(instruction: Message, reply: Message) -> Message:
        if instruction.metadata.message_type == TRAIN and reply.metadata.src_node_id == 1001:
            sums.append(unpack(reply.content.array_records["statistics"]))
        return reply

    options = {**STATED, "classification.num-rounds": 3, "classification.readings": ALL_READINGS, **more}
    nodes = hospitals(tmp_path, "north", "south", "west")
    config = tiny_run(tmp_path / "runs", options)
    run_federation(config, 3, meddle=keep, node_options=nodes, is_away=is_away)
    return read(tmp_path, "status.json"), sums


def test_a_hospital_that_joins_late_trains_and_is_left_out_of_all_sums_by_class(tmp_path: Path) -> None:
    status, sums = join_late(tmp_path, {})
    assert status["state"] == "degraded"
    assert status["nodes"]["south"]["contributed"] == 2
    assert "'late-joining' is true" in " ".join(status["nodes"]["south"]["reasons"])
    assert len(sums) == 2 and all(not np.any(value) for one in sums for value in one.values())
    assert any(name.startswith("own/") for name in sums[1])
    exchange = json.loads((tmp_path / "runs/run/classification/prototypes/round-0003.json").read_text())
    assert exchange["contributed"] == ["north", "west"]
    assert exchange["left-out"]["south"]["outcome"] == "failed"


def test_if_the_study_allows_it_a_hospital_that_joins_late_is_in_all_sums(tmp_path: Path) -> None:
    status, sums = join_late(tmp_path, {"late-joining": True})
    assert status["state"] == "completed"
    assert len(sums) == 2 and all(np.any(one["raw/confusion"]) for one in sums)
    exchange = json.loads((tmp_path / "runs/run/classification/prototypes/round-0003.json").read_text())
    assert exchange["contributed"] == ["north", "south", "west"]


def test_a_hospital_that_lost_its_state_is_one_that_joins_late(tmp_path: Path) -> None:
    for name in ("north", "south", "west"):
        write_learnable(tmp_path / name)

    def lose(instruction: Message, reply: Message) -> Message:
        number = instruction.content.config_records[CONFIG].get("server-round")
        if (instruction.metadata.message_type, number, reply.metadata.src_node_id) == (TRAIN, 1, 1001):
            (tmp_path / "state" / "run" / "south" / "classification" / "history.safetensors").unlink()
        return reply

    config = tiny_run(tmp_path / "runs", {**STATED, "classification.num-rounds": 2})
    run_federation(config, 3, meddle=lose, node_options=hospitals(tmp_path, "north", "south", "west"))
    south = read(tmp_path, "status.json")["nodes"]["south"]
    assert south["contributed"] == 2 and "has lost its state" in " ".join(south["reasons"])
