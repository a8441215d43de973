"""Real simulations of a tiny Flower app: three at once, each with another end, and nothing left behind."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.cli.fakes import make_fake_app

_MARK = "FL_APP_TEST_MARK"
_SECONDS = 300  # a minute on an idle machine


@dataclass(frozen=True)
class Ended:
    """A run that has ended.

    Attributes:
        exit_status: of `fl-app run`.
        output: what it printed.
        errors: what it printed as errors.
        folder: the run folder.
        survivors: command lines of its processes that are still alive.
    """

    exit_status: int
    output: str
    errors: str
    folder: Path
    survivors: list[list[str]]


def start(behaviour: str, tmp: Path, mark: str) -> subprocess.Popen[str]:
    app = make_fake_app(tmp / behaviour, behaviour)
    command = [sys.executable, "-c", "from fl_app.cli import main; main()", "run", "--app", str(app), "--nodes", "2"]
    command += ["--out", str(tmp / "runs"), "--set", f"run-name={behaviour}"]
    environment = os.environ | {_MARK: mark + behaviour, "TMPDIR": str(tmp / "private")}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def find_marked(mark: str) -> list[list[str]]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.cmdline())
        except psutil.Error:
            continue
    return found


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ended]]:
    tmp = tmp_path_factory.mktemp("real")
    (tmp / "private").mkdir()
    mark = uuid.uuid4().hex
    with ExitStack() as stack:
        running = {}
        for behaviour in ("complete", "raise", "wait"):
            running[behaviour] = stack.enter_context(start(behaviour, tmp, mark))
            stack.callback(running[behaviour].terminate)
        wait_for(tmp / "runs" / "wait" / "replied", running["wait"])
        running["wait"].send_signal(signal.SIGINT)
        results = {}
        for behaviour, process in running.items():
            output, errors = process.communicate(timeout=_SECONDS)
            survivors = find_marked(mark + behaviour)
            results[behaviour] = Ended(process.returncode, output, errors, tmp / "runs" / behaviour, survivors)
        yield results


def test_a_completed_run_exits_with_0_and_ends_with_its_paths(ended: dict[str, Ended]) -> None:
    run = ended["complete"]
    assert run.exit_status == 0, run.errors
    assert run.output.splitlines()[-4:] == [
        "outcome: completed",
        f"time: {run.output.splitlines()[-3].removeprefix('time: ')}",
        f"run folder: {run.folder}",
        f"gallery: {run.folder / 'gallery.png'}",
    ]
    assert "round 2/2  loss 0.5000" in run.output


def test_the_log_is_kept_in_the_run_folder(ended: dict[str, Ended]) -> None:
    assert "Starting Flower Simulation" in (ended["complete"].folder / "flower.log").read_text(encoding="utf-8")


def test_a_server_that_raises_exits_with_1_and_says_why(ended: dict[str, Ended]) -> None:
    run = ended["raise"]
    assert run.exit_status == 1
    assert "The run failed: Flower says 'finished:failed': " in run.errors
    assert "the server fell over" in run.errors.split("The run failed")[1]
    assert "RuntimeError: the server fell over" in (run.folder / "flower.log").read_text(encoding="utf-8")


def test_a_run_stopped_with_ctrl_c_exits_with_130_and_says_how_to_go_on(ended: dict[str, Ended]) -> None:
    run = ended["wait"]
    assert run.exit_status == 130
    assert "Stopped. Go on with:\n  fl-app run --nodes 2 --set resume=" in run.errors
    assert f"resume={run.folder} " in run.errors
    assert "run-name" not in run.errors


@pytest.mark.parametrize("behaviour", ["complete", "raise", "wait"])
def test_no_process_is_left_behind(ended: dict[str, Ended], behaviour: str) -> None:
    assert ended[behaviour].survivors == []


def test_the_private_folders_are_gone(ended: dict[str, Ended]) -> None:
    folder = ended["complete"].folder.parents[1] / "private"
    assert list(folder.iterdir()) == []
