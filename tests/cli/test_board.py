"""What a grid shows while it goes on."""

import io
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from fl_app.cli.board import describe_end, describe_running, open_board
from fl_app.runs.progress import RunReader
from fl_app.simulation.repeat import Ended, Job, Running
from tests.grids.made_up import write_run


def job(tmp_path: Path, name: str = "FedAvg-seed-0") -> Job:
    return Job(name, [sys.executable, "-c", ""], tmp_path / name, tmp_path / f"{name}.log", {})


def running(tmp_path: Path) -> Running:
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    process.wait()
    one = job(tmp_path)
    return Running(one, process, time.time(), RunReader(one.folder, since=0.0))


def test_a_run_that_goes_on_has_a_line_with_its_phase_and_round(tmp_path: Path) -> None:
    folder = tmp_path / "FedAvg-seed-0"
    folder.mkdir()
    (folder / "status.json").write_text('{"state": "running", "task": "classification", "round": 2, "num-rounds": 9}')
    assert describe_running(running(tmp_path)) == "FedAvg-seed-0  training classification  round 2/9  0:00"


def test_a_run_that_ended_has_a_line_with_its_figures(tmp_path: Path) -> None:
    write_run(tmp_path / "FedAvg-seed-0", accuracy=0.75)
    line = describe_end(Ended(job(tmp_path), 0, 65.0, is_degraded=True))
    assert line == "FedAvg-seed-0: degraded, 1:05, classification loss 0.1250, accuracy 0.750"


def test_lines_have_no_control_characters_and_tell_each_start_and_end_once(tmp_path: Path) -> None:
    text = io.StringIO()
    one, ended = running(tmp_path), Ended(job(tmp_path), 1, 5.0, "no images")
    with open_board(Console(file=text, width=200), 3, 1) as show:
        for _ in range(3):
            show([one], [])
        for _ in range(2):
            show([], [ended])
    assert text.getvalue().splitlines() == ["FedAvg-seed-0: starts", "[2/3] FedAvg-seed-0 FAILED after 0:05: no images"]


def test_a_screen_shows_the_runs_that_go_on_and_keeps_only_the_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100)
    with open_board(console, 2, 0) as show:
        show([running(tmp_path)], [])
        show([running(tmp_path)], [Ended(job(tmp_path, "other"), 0, 5.0)])
    assert "FedAvg-seed-0  starting Flower" in text.getvalue() and "about 0:05 left" in text.getvalue()
    assert "[1/2] other: completed, 0:05" in text.getvalue()
