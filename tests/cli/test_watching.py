"""`fl-app status --watch` on a run folder that a thread plays the server of."""

import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from fl_app.cli.app import app
from fl_app.cli.status import picture
from fl_app.runs import watching
from fl_app.runs.folder import RunFolder
from fl_app.runs.watching import wait_for_run
from tests.cli.test_status import ROUND, RUNNING, make_run

COUNTS = {"train": [20, 12], "validation": [3, 1], "test": [5, 2]}
WAITING = {"state": "waiting", "reason": "1 of 2 nodes are connected", "described": {"north": COUNTS}, "updated": 1.0}
ENDED = {**RUNNING, "state": "completed", "reason": None}


@contextmanager
def played(folder: Path, steps: list[Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a run whose server goes one step further at each pause of the watcher, and lets go of it after the last."""
    make_run(folder, steps[0], rounds=0)
    (folder / "run.json").write_text(json.dumps({"run-name": "run", "options": {}}))
    lock = RunFolder(folder)
    lock.lock()
    left = steps[1:]

    def go_on(_seconds: float) -> None:
        if not left:
            raise AssertionError("the watcher did not end")
        step = left.pop(0)
        if isinstance(step, BaseException):
            raise step
        if step is None:
            lock.unlock()
            return
        (folder / "status.json").write_text(json.dumps(step))
        if step["state"] == "completed":
            (folder / "metrics.jsonl").write_text(json.dumps({**ROUND, "num-rounds": 5}) + "\n")

    monkeypatch.setattr(time, "sleep", go_on)
    yield folder
    lock.unlock()


def watch(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["status", str(folder), "--watch", *arguments])


def test_a_pipe_gets_a_line_for_each_change_and_no_control_character(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with played(tmp_path / "run", [WAITING, WAITING, RUNNING, ENDED, None], monkeypatch) as folder:
        answer = watch(folder)
    assert answer.exit_code == 0
    assert answer.stdout.splitlines()[:5] == [
        "waiting for nodes: 1 of 2 nodes are connected",
        "north has said what it holds: train 32, validation 4, test 7",
        "training diffusion",
        "diffusion round 1/5  loss 0.2500 (validation 0.5000)  1 of 2 nodes  0:10",
        "  west late: slow",
    ]
    assert f"run folder: {folder}" in answer.stdout
    assert all(character.isprintable() or character == "\n" for character in answer.output)


def test_a_run_that_fails_or_whose_server_is_gone_ends_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with played(tmp_path / "failed", [RUNNING, {**RUNNING, "state": "failed"}, None], monkeypatch) as folder:
        assert watch(folder).exit_code == 1
    with played(tmp_path / "killed", [RUNNING, None, RUNNING], monkeypatch) as folder:
        answer = watch(folder)
    assert answer.exit_code == 1
    assert "no server works on this run any more" in answer.stdout


def test_a_resumed_run_is_watched_although_its_status_is_still_that_of_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [{**RUNNING, "state": "failed"}, RUNNING, ENDED, None]
    with played(tmp_path / "run", steps, monkeypatch) as folder:
        assert watch(folder).exit_code == 0


def test_with_json_the_document_alone_is_on_stdout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with played(tmp_path / "run", [WAITING, ENDED, None], monkeypatch) as folder:
        answer = watch(folder, "--json")
    assert json.loads(answer.stdout)["progress"]["state"] == "completed"
    assert "waiting for nodes" in answer.stderr


def test_a_screen_shows_one_picture_with_the_sites_that_have_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    console = Console(force_terminal=True, width=100, file=screen, _environ={"TERM": "xterm"})
    with (
        played(tmp_path / "run", [WAITING, KeyboardInterrupt()], monkeypatch) as folder,
        pytest.raises(KeyboardInterrupt),
    ):
        watching.watch_run(folder, console, picture)
    shown = screen.getvalue()
    assert "have said what they hold: north" in shown and "32/4/7" in shown
    assert "\x1b[?25h" in shown  # the cursor is there again


def test_ctrl_c_ends_it_without_a_trace(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", RUNNING)
    program = f"""
import os, signal, time
from pathlib import Path
from fl_app.runs.folder import RunFolder
import sys
RunFolder.lock(folder := RunFolder(Path({str(folder)!r})))
time.sleep = lambda _: os.kill(os.getpid(), signal.SIGINT)
sys.argv = ["fl-app", "status", {str(folder)!r}, "--watch"]
from fl_app.cli import main
main()
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 130
    assert answer.stderr == ""


def test_the_watcher_waits_for_a_run_that_has_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def begin(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            make_run(tmp_path / "late", RUNNING)

    monkeypatch.setattr(time, "sleep", begin)
    console = Console(file=io.StringIO(), width=300)
    assert wait_for_run(Path("late"), tmp_path, console) == tmp_path / "late"
    assert len(pauses) == 2
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().startswith("waiting for the run to begin. No run 'late' in ")
    assert console.file.getvalue().count("\n") == 1
