"""What the progress view reads from the run folder."""

import json
import os
import time
from pathlib import Path
from typing import Any, cast

from fl_app.runs.progress import Progress, RunReader, SeenRound, SeenStatus, estimate_seconds, summarise

STATUS: SeenStatus = {
    "state": "running",
    "task": "diffusion",
    "round": 3,
    "num-rounds": 10,
    "asked": ["site0", "site1", "site2"],
    "replied": ["site0"],
    "failed": {"site2": "out of memory"},
}


def make_round(number: int, **changes: Any) -> SeenRound:
    record = {"task": "diffusion", "round": number, "outcome": "ok", "train-loss": 1 / number, "seconds": 4.0}
    return cast(SeenRound, record | {"validation-loss": 2 / number, "images-per-second": 50.0} | changes)


def write_status(folder: Path, **changes: Any) -> None:
    (folder / "status.json").write_text(json.dumps(STATUS | changes))


def test_without_a_status_the_run_is_starting() -> None:
    assert summarise(None, []) == Progress("starting")


def test_an_empty_status_is_no_error() -> None:
    assert summarise({}, [{}]).state == "starting"


def test_null_everywhere_is_no_error() -> None:
    status, line = cast(SeenStatus, dict.fromkeys(STATUS)), cast(SeenRound, dict.fromkeys(make_round(1)))
    assert summarise(status, [line]).num_rounds == 0


def test_sites_are_sorted_into_replied_failed_and_awaited() -> None:
    progress = summarise(STATUS, [])
    assert progress.replied == ("site0",)
    assert progress.failed == {"site2": "out of memory"}
    assert progress.awaited == ("site1",)


def test_numbers_come_from_the_last_round_that_counts() -> None:
    progress = summarise(
        STATUS, [make_round(1), make_round(2), make_round(3, **{"outcome": "failed", "train-loss": None})]
    )
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
    progress = summarise({**STATUS, "state": "finishing"}, [make_round(1)])
    assert progress.seconds_left is None
    assert progress.awaited == ()


def test_rounds_are_read_line_by_line_and_never_half(tmp_path: Path) -> None:
    metrics, folder = tmp_path / "metrics.jsonl", RunReader(tmp_path, tmp_path.parent, since=0)
    assert folder.read_rounds() == []
    first, second = json.dumps(make_round(1)), json.dumps(make_round(2))
    metrics.write_text(f"{first}\n{second[:20]}")
    assert [one["round"] for one in folder.read_rounds()] == [1]
    metrics.write_text(f"{first}\n{second}\n")
    assert [one["round"] for one in folder.read_rounds()] == [1, 2]
    assert [one["round"] for one in folder.read_rounds()] == [1, 2]


def test_rounds_that_a_resumed_run_took_back_are_forgotten(tmp_path: Path) -> None:
    metrics, folder = tmp_path / "metrics.jsonl", RunReader(tmp_path, tmp_path.parent, since=0)
    metrics.write_text("".join(f"{json.dumps(make_round(number))}\n" for number in (1, 2, 3)))
    assert len(folder.read_rounds()) == 3
    metrics.write_text(f"{json.dumps(make_round(1))}\n")
    assert [one["round"] for one in folder.read_rounds()] == [1]


def test_a_broken_line_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(f"no json\n[1]\n{json.dumps(make_round(1))}\n")
    assert len(RunReader(tmp_path, tmp_path.parent, since=0).read_rounds()) == 1


def test_the_status_of_an_earlier_attempt_does_not_count(tmp_path: Path) -> None:
    write_status(tmp_path)
    os.utime(tmp_path / "status.json", (1000, 1000))
    folder = RunReader(tmp_path, tmp_path.parent, since=time.time())
    assert folder.read_status() is None
    write_status(tmp_path)
    assert folder.read_status() == STATUS


def test_an_automatically_resumed_folder_is_the_one_that_shows_life(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_status(tmp_path / name)
        os.utime(tmp_path / name / "status.json", (1000, 1000))
    folder = RunReader(None, tmp_path, since=time.time())
    assert folder.folder is None
    write_status(tmp_path / "b")
    assert folder.folder == tmp_path / "b"


def test_a_missing_folder_is_no_folder(tmp_path: Path) -> None:
    folder = RunReader(tmp_path / "none", tmp_path, since=0)
    assert folder.folder is None
    assert folder.read_status() is None
