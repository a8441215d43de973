"""What the progress view reads from the run folder."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fl_app.files import from_json, to_json
from fl_app.runs.documents import RoundLine, RunStatus, SiteCounts
from fl_app.runs.progress import Progress, RunReader, estimate_seconds, summarise
from fl_app.strategies.node_outcome import NodeOutcome

OLD = Path(__file__).parents[1] / "old_runs"
STATUS = RunStatus(
    state="running",
    task="diffusion",
    round=3,
    num_rounds=10,
    asked=("site0", "site1", "site2"),
    replied=("site0",),
    failed={"site2": "out of memory"},
)


def make_round(number: int, **changes: Any) -> RoundLine:
    line = RoundLine(task="diffusion", round=number, outcome="ok", train_loss=1 / number, seconds=4.0)
    return replace(line, **{"validation_loss": 2 / number, "images_per_second": 50.0, **changes})


def text(line: RoundLine) -> str:
    return json.dumps(to_json(line))


def write_status(folder: Path) -> None:
    (folder / "status.json").write_text(json.dumps(to_json(STATUS)))


def test_without_a_status_the_run_is_starting() -> None:
    assert summarise(None, []) == Progress("starting")


def test_an_empty_status_is_no_error() -> None:
    assert from_json(RunStatus, b"{}") == RunStatus()
    assert summarise(RunStatus(), []).state == "starting"


def test_fields_that_a_version_did_not_write_get_defaults_and_others_are_ignored() -> None:
    line = b'{"task": "x", "round": 2, "outcome": "ok", "colour": 5, "nodes": {"a": {"outcome": "late", "shape": []}}}'
    assert from_json(RoundLine, line) == RoundLine(task="x", round=2, outcome="ok", nodes={"a": NodeOutcome("late")})
    status = b'{"state": "running", "nodes": {"a": {"late": 3}}}'
    assert from_json(RunStatus, status) == RunStatus(state="running", nodes={"a": SiteCounts(late=3)})


@pytest.mark.parametrize(
    "change", [{"round": None}, {"outcome": "won"}, {"asked": "a"}, {"nodes": {"a": {}}}, {"task": 5}]
)
def test_a_value_of_another_type_makes_a_line_damaged(change: dict[str, object]) -> None:
    assert from_json(RoundLine, json.dumps(to_json(make_round(1)) | change).encode()) is None


def test_the_documents_of_old_runs_are_written_again_as_they_stand_there() -> None:
    for line in (OLD / "finished/metrics.jsonl").read_bytes().splitlines():
        found = from_json(RoundLine, line)
        assert found is not None and to_json(found) == json.loads(line) | {"drawn": {}}
    content = (OLD / "finished/status.json").read_bytes()
    status = from_json(RunStatus, content)
    assert status is not None and to_json(status) == json.loads(content) | {"described": {}, "reasons": [], "notes": []}


def test_sites_are_sorted_into_replied_failed_and_awaited() -> None:
    progress = summarise(STATUS, [])
    assert progress.replied == ("site0",)
    assert progress.failed == {"site2": "out of memory"}
    assert progress.awaited == ("site1",)


def test_numbers_come_from_the_last_round_that_counts() -> None:
    progress = summarise(STATUS, [make_round(1), make_round(2), make_round(3, outcome="failed", train_loss=None)])
    assert progress.loss == 0.5
    assert progress.validation_loss == 1.0
    assert progress.images_per_second == 50.0


def test_rounds_of_another_task_do_not_count() -> None:
    assert summarise(STATUS, [make_round(9, task="classification")]).loss is None


def test_time_left_is_the_remaining_rounds_at_the_recent_pace() -> None:
    rounds = [make_round(number, seconds=100.0 if number == 1 else 4.0) for number in range(1, 8)]
    assert estimate_seconds(rounds, 10) == 3 * 4.0
    assert estimate_seconds([], 10) is None
    assert estimate_seconds(rounds, 5) == 0


def test_a_finished_run_has_no_time_left_and_awaits_nobody() -> None:
    progress = summarise(replace(STATUS, state="finishing"), [make_round(1)])
    assert progress.seconds_left is None
    assert progress.awaited == ()


def test_rounds_are_read_line_by_line_and_never_half(tmp_path: Path) -> None:
    metrics, folder = tmp_path / "metrics.jsonl", RunReader(tmp_path, since=0)
    assert folder.read_rounds() == []
    first, second = text(make_round(1)), text(make_round(2))
    metrics.write_text(f"{first}\n{second[:20]}")
    assert [one.round for one in folder.read_rounds()] == [1]
    metrics.write_text(f"{first}\n{second}\n")
    assert [one.round for one in folder.read_rounds()] == [1, 2]
    assert [one.round for one in folder.read_rounds()] == [1, 2]


def test_rounds_that_a_resumed_run_took_back_are_forgotten(tmp_path: Path) -> None:
    metrics, folder = tmp_path / "metrics.jsonl", RunReader(tmp_path, since=0)
    metrics.write_text("".join(f"{text(make_round(number))}\n" for number in (1, 2, 3)))
    assert len(folder.read_rounds()) == 3
    metrics.write_text(f"{text(make_round(1))}\n")
    assert [one.round for one in folder.read_rounds()] == [1]


def test_a_broken_line_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(f"no json\n[1]\n{text(make_round(1))}\n")
    assert len(RunReader(tmp_path, since=0).read_rounds()) == 1


def test_the_status_of_an_earlier_attempt_does_not_count(tmp_path: Path) -> None:
    write_status(tmp_path)
    os.utime(tmp_path / "status.json", (1000, 1000))
    folder = RunReader(tmp_path, since=time.time())
    assert folder.read_status() is None
    write_status(tmp_path)
    assert folder.read_status() == STATUS


def test_a_missing_folder_is_no_folder(tmp_path: Path) -> None:
    folder = RunReader(tmp_path / "none", since=0)
    assert folder.folder is None
    assert folder.read_status() is None
