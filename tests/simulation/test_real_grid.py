"""`fl-app repeat` on the real app and real Flowers, two at once, stopped and gone on with."""

import csv
import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

from tests.cli.fakes import MARK, find_marked
from tests.tiny import settings_of, tiny_run

ROOT = Path(__file__).parents[2]
_OWN = ("output-dir", "run-name", "resume", "seed", "tasks", "classification.num-rounds")
_SECONDS = 400


def start(folder: Path, mark: str) -> subprocess.Popen[str]:
    settings = settings_of(tiny_run(folder))
    pairs = [settings[at : at + 2] for at in range(0, len(settings), 2)]
    words = [word for pair in pairs if pair[1].partition("=")[0] not in _OWN for word in pair]
    command = [sys.executable, "-m", "fl_app.cli", "repeat", "--seeds", "2", "--nodes", "2", "--at-once", "2"]
    command += ["--out", str(folder), "--set", "tasks=classification", "--set", "classification.num-rounds=60", *words]
    environment = {**os.environ, MARK: mark}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_two_runs_at_once_are_stopped_together_and_gone_on_with(tmp_path: Path) -> None:
    folder, mark = tmp_path / "grid", uuid.uuid4().hex
    metrics = [folder / f"default-seed-{seed}" / "metrics.jsonl" for seed in (0, 1)]
    with start(folder, mark) as first:
        deadline = time.monotonic() + _SECONDS
        while not all(path.exists() for path in metrics) and first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        first.send_signal(signal.SIGINT)
        _, errors = first.communicate(timeout=_SECONDS)
    assert first.returncode == 130 and find_marked(mark) == []
    assert shlex.split(errors.splitlines()[1])[:4] == ["fl-app", "repeat", "--seeds", "2"]

    with start(folder, mark) as second:
        output, errors = second.communicate(timeout=_SECONDS)
    assert second.returncode == 0, output + errors
    assert "[2/2] " in output and find_marked(mark) == []
    with (folder / "comparison.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["figure"] == "rounds"]
    assert [(row["seed"], float(row["value"])) for row in rows] == [("0", 60.0), ("1", 60.0)]
