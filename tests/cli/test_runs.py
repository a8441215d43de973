"""`fl-app runs`: every run of a folder, broken ones included; and how every command finds one by its name."""

import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from fl_app.api.classifier import find_model
from fl_app.api.drawing import open_model
from fl_app.cli.app import app
from fl_app.cli.runs import make_table
from fl_app.errors import RunFolderError
from fl_app.runs.overview import find_named, find_run, look_at
from tests.cli.test_status import RUNNING, make_run

TABLE = "approach,accuracy,home-accuracy\nFedAvg,0.5,0.4\nFedAvg + prototypes (ships),0.75,\n"


def make_runs(folder: Path) -> Path:
    """Make a finished run, a killed one, one whose run.json is damaged, one without it, and what is no run."""
    done = make_run(folder / "done", {**RUNNING, "state": "completed", "reason": None})
    options = {"options": {"tasks": "diffusion,classification"}, "started": "2026-11-26T09:32:12+0000"}
    (done / "run.json").write_text(json.dumps({"run-name": "done", **options}))
    (done / "classification").mkdir()
    (done / "classification" / "comparison.csv").write_text(TABLE)
    make_run(folder / "killed", RUNNING)
    (make_run(folder / "damaged", RUNNING) / "run.json").write_text("{")
    (make_run(folder / "half", RUNNING) / "run.json").unlink()
    for number, name in enumerate(("damaged", "killed", "done")):
        os.utime(folder / name / "run.json", (number, number))
    (folder / "pictures").mkdir()
    (folder / ".hidden").mkdir()
    return folder


def list_runs(folder: Path, *arguments: str) -> str:
    answer = CliRunner().invoke(app, ["runs", "--runs", str(folder), *arguments], catch_exceptions=False)
    assert answer.exit_code == 0
    return answer.stdout


def test_every_run_is_listed_the_newest_first_and_damage_is_named(tmp_path: Path) -> None:
    lines = list_runs(make_runs(tmp_path)).splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["name", "done", "killed", "damaged", "half"]
    assert lines[1].split("  ")[-1] == "diffusion loss 0.5000, accuracy 0.750"
    assert "completed" in lines[1] and "diffusion 2/5" in lines[1] and "2026-11-26 09:32" in lines[1]
    assert "stopped" in lines[2]
    assert "damaged: run.json is damaged: this run cannot be resumed" in lines
    assert "half: run.json is missing: this run cannot be resumed" in lines
    assert lines[-1] == "No runs, as they hold neither run.json nor status.json: pictures"


def test_json_holds_the_same_runs(tmp_path: Path) -> None:
    found = json.loads(list_runs(make_runs(tmp_path), "--json"))
    assert [run["name"] for run in found["runs"]] == ["done", "killed", "damaged", "half"]
    assert found["runs"][0]["results"] == {"diffusion-loss": 0.5, "accuracy": 0.75}
    assert found["runs"][1]["is-alive"] is False
    assert found["no-runs"] == [str(tmp_path / "pictures")]


def test_a_folder_without_runs_says_so(tmp_path: Path) -> None:
    assert list_runs(tmp_path) == f"There is no run in {tmp_path}.\n"


def test_a_narrow_screen_folds_the_table_and_loses_nothing(tmp_path: Path) -> None:
    name = "20261126-093212-fashion-mnist-ab12"
    console = Console(width=40, file=io.StringIO(), record=True)
    console.print(make_table([look_at(make_run(tmp_path / name, RUNNING), 1000.0)]))
    lines = console.export_text().splitlines()
    assert not any("…" in line for line in lines)
    width = next(line.index("state") for line in lines if "state" in line)
    assert "".join(line[:width].strip() for line in lines) == f"name{name}"


def test_a_name_that_is_like_a_runs_name_gets_that_as_a_hint(tmp_path: Path) -> None:
    make_runs(tmp_path)
    with pytest.raises(RunFolderError, match=r"Did you mean 'killed'\?$"):
        find_run(Path("kiled"), tmp_path)
    with pytest.raises(RunFolderError, match=rf"no such folder, nor a run in {tmp_path}. Did you mean 'killed'\?$"):
        find_model(Path("kiled"), tmp_path)
    with pytest.raises(RunFolderError, match=r"nor a run in .* `fl-app runs` lists those that are there.$"):
        open_model(Path("xyz"), runs=tmp_path)


def test_a_run_of_that_name_goes_before_a_folder_that_holds_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = make_runs(tmp_path / "runs")
    (tmp_path / "done").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_named(Path("done"), runs) == runs / "done"
    assert find_named(runs / "killed", tmp_path) == runs / "killed"
    assert find_named(Path("nowhere"), runs) == tmp_path / "nowhere"


@pytest.mark.parametrize("command", ["status", "sample", "predict", "bundle-logs"])
def test_every_command_looks_in_the_folder_that_runs_names(tmp_path: Path, command: str) -> None:
    more = {"sample": ["--out", "x"], "predict": ["image.png"], "bundle-logs": ["--out", "x.zip"]}.get(command, [])
    answer = CliRunner().invoke(app, [command, "study-9", *more, "--runs", str(tmp_path)])
    assert isinstance(answer.exception, RunFolderError)
    assert str(tmp_path) in str(answer.exception)
