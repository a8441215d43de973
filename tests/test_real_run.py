"""`fl-app run` on the real app and a real Flower whose processes die; `test_package.py` runs it undisturbed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fl_app.runs.folder import RunFolder
from tests.tiny import settings_of, tiny_run

ROOT = Path(__file__).parents[1]

DIES_ONCE = """
import os as _os
import signal as _signal

_train = app._registered_funcs["train.default"]


def _die_once(message, context):
    is_first = message.content.config_records["config"]["server-round"] == 1
    if is_first and context.node_config["partition-id"] == 1:
        _os.kill(_os.getpid(), _signal.SIGKILL)
    return _train(message, context)


app._registered_funcs["train.default"] = _die_once
"""


@pytest.fixture
def dying_app(tmp_path: Path) -> Path:
    """The real app, but one whose second node kills its process in the first round."""
    copy = tmp_path / "app"
    shutil.copytree(ROOT / "fl_app", copy / "fl_app", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "server_app.py", "client_app.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    with (copy / "client_app.py").open("a") as file:
        file.write(DIES_ONCE)
    return copy


def test_a_run_goes_on_when_the_process_of_a_node_is_killed(dying_app: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fl_app.cli", "run", "--app", str(dying_app), "--nodes", "3"]
    command += settings_of(tiny_run(tmp_path / "runs"))
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=540)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = RunFolder(tmp_path / "runs/run").read_metrics()
    assert lines[0].nodes["site-1"].outcome == "failed"
    assert "died" in str(lines[0].nodes["site-1"].reason)
    # Flower does not replace a simulation's dead worker, and goes on handing it nodes: so others may fail with it.
    assert [line.outcome for line in lines] == ["ok", "ok"]
    assert "outcome: degraded" in result.stdout and "site-1" in result.stderr
