"""The processes of a run are found by their token and ended, and nobody else's."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fl_app.simulation.processes import TOKEN_VARIABLE, end_processes, find_processes

_SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
_STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
_PARENT = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env={}).pid, flush=True)
time.sleep(60)
"""
_GUARDED = """
import sys, time
from pathlib import Path
from fl_app.simulation.processes import start_guard
start_guard(sys.argv[1], Path(sys.argv[2]))
print(flush=True)
time.sleep(60)
"""


@pytest.fixture
def token(tmp_path: Path) -> Iterator[str]:
    name = tmp_path.name + str(os.getpid())
    yield name
    end_processes(name, grace_seconds=0)


def start(command: list[str], token: str) -> subprocess.Popen[str]:
    environment = os.environ | {TOKEN_VARIABLE: token}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)


def test_only_processes_with_the_token_are_ended(token: str) -> None:
    with start(_SLEEP, token) as own, start(_SLEEP, token + "other") as other:
        assert [process.pid for process in find_processes(token)] == [own.pid]
        end_processes(token)
        assert find_processes(token) == []
        is_spared = other.poll() is None
        other.kill()
    assert is_spared


def test_a_process_that_does_not_listen_is_killed(token: str) -> None:
    with start([sys.executable, "-c", _STUBBORN], token) as process:
        assert process.stdout is not None
        process.stdout.readline()
        end_processes(token, grace_seconds=0.2)
    assert find_processes(token) == []


def test_a_child_without_the_token_is_found_through_its_parent(token: str) -> None:
    with start([sys.executable, "-c", _PARENT], token) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert {process.pid for process in find_processes(token)} == {parent.pid, child}
        end_processes(token)
    assert not psutil.pid_exists(child)


def test_the_guard_cleans_up_after_a_killed_program(token: str, tmp_path: Path) -> None:
    folder = tmp_path / "private"
    folder.mkdir()
    with (
        start(_SLEEP, token) as own,
        subprocess.Popen([sys.executable, "-c", _GUARDED, token, str(folder)], stdout=subprocess.PIPE) as program,
    ):
        assert program.stdout is not None
        program.stdout.readline()
        assert own.pid in [process.pid for process in find_processes(token)]
        program.kill()
        assert own.wait(timeout=20) == -signal.SIGTERM
    deadline = time.monotonic() + 10
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()
