"""`fl-app run` on the real app and a real Flower: its own home and port, Ray, processes that die."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fl_app.options.sections import OptionValue
from fl_app.runs.folder import RunFolder
from fl_app.runs.progress import SeenRound
from tests.federation import run_federation
from tests.tiny import tiny_run

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


BOTH: dict[str, OptionValue] = {
    "tasks": "diffusion,classification",
    "data.limit": 200,
    "classification.readings": "consistent,local",
    "classification.learning-rate": 0.005,
}


def simulate(
    app: Path, output: Path, *, nodes: int, overrides: dict[str, OptionValue] | None = None
) -> subprocess.CompletedProcess[str]:
    config = tiny_run(output, overrides)
    settings = {**config.to_flat(), "output-dir": str(output), "federation.wait-seconds": 600.0}
    command = [sys.executable, "-m", "fl_app.cli", "run", "--app", str(app), "--nodes", str(nodes)]
    for name, value in settings.items():
        command += ["--set", f"{name}={json.dumps(value)}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=540)


def metrics(output: Path) -> list[SeenRound]:
    return RunFolder(output / "run").read_metrics()


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


def test_a_real_run_ends_with_the_bits_of_the_run_in_one_process(tmp_path: Path) -> None:
    result = simulate(ROOT, tmp_path / "real", nodes=2, overrides=BOTH)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"gallery: {tmp_path}/real/run/diffusion/samples/final.png" in result.stdout
    assert "FedAvg + prototypes" in result.stdout
    run_federation(tiny_run(tmp_path / "local", BOTH), 2)
    for task in ("diffusion", "classification"):
        found = []
        for part in ("real", "local"):
            checkpoint = RunFolder(tmp_path / part / "run").last_checkpoint(task)
            assert checkpoint is not None
            found.append(checkpoint.models["raw"])
        assert all(np.array_equal(found[0][key], found[1][key]) for key in found[1])
    prototypes = [
        (tmp_path / part / "run/classification/prototypes/round-0002.json").read_text() for part in ("real", "local")
    ]
    assert prototypes[0] == prototypes[1]


def test_a_run_goes_on_when_the_process_of_a_node_is_killed(dying_app: Path, tmp_path: Path) -> None:
    result = simulate(dying_app, tmp_path / "runs", nodes=3)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = metrics(tmp_path / "runs")
    assert lines[0]["nodes"]["site-1"]["outcome"] == "failed"
    assert "died" in lines[0]["nodes"]["site-1"]["reason"]
    # Flower does not replace a simulation's dead worker, and goes on handing it nodes: so others may fail with it.
    assert [line["outcome"] for line in lines] == ["ok", "ok"]
    assert "outcome: degraded" in result.stdout and "site-1" in result.stderr
