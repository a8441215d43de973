"""`fl-app compare`: where its files go, what it prints, and what it refuses."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fl_app.cli.app import app
from fl_app.grids.document import Cell, GridDocument, write_grid
from tests.grids.made_up import write_pairs, write_run

pytestmark = pytest.mark.usefixtures("undrawn")


def compare(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, words)])


def write_small_grid(folder: Path) -> Path:
    cells = tuple(Cell(f"{name}-seed-{seed}", seed, {"classification.strategy": name})
                  for seed in (0, 1) for name in ("FedAvg", "FedProx"))  # fmt: skip
    write_pairs(folder, {"FedAvg": {0: 0.5, 1: 0.8}, "FedProx": {0: 0.6, 1: 0.9}})
    write_grid(folder, GridDocument("made-up", 2, {}, ("classification.strategy",), cells))
    return folder


def test_a_grid_takes_its_own_table_and_the_most_important_means_are_printed(tmp_path: Path) -> None:
    answer = compare(write_small_grid(tmp_path / "grid"))
    assert answer.exit_code == 0, answer.output
    line = next(one for one in answer.stdout.splitlines() if one.startswith("FedProx  accuracy"))
    assert line.split() == ["FedProx", "accuracy", "0.750", "±", "0.212", "+0.100", "[+0.100,", "+0.100]", "2", "100"]
    assert (tmp_path / "grid" / "comparison.csv").is_file() and f"page: {tmp_path / 'grid'}" in answer.stdout


def test_runs_leave_their_table_in_a_folder_of_its_own_or_where_out_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = write_pairs(tmp_path / "runs", {"FedAvg": {0: 0.5}, "FedProx": {0: 0.6}})
    monkeypatch.chdir(tmp_path)
    assert compare(*runs).exit_code == 0 and (tmp_path / "comparison" / "comparison.md").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "comparison"}
    assert compare("--runs", tmp_path / "runs", "FedAvg-seed-0", "--out", tmp_path / "new" / "place").exit_code == 0
    assert (tmp_path / "new" / "place" / "comparison.md").is_file()


def test_json_holds_settings_rows_and_files(tmp_path: Path) -> None:
    found = json.loads(compare(write_small_grid(tmp_path / "grid"), "--json", "--baseline", "FedProx").stdout)
    assert found["baseline"] == "FedProx" and found["settings"]["FedAvg"]["runs"][0].endswith("FedAvg-seed-0")
    row = next(one for one in found["rows"] if one["setting"] == "FedAvg" and one["method"] == "ships")
    assert row["difference"] == pytest.approx(-0.1) and row["pairs"] == 2 and row["reference"] == "FedProx"
    assert len(found["files"]) > 3


def test_a_run_that_is_not_finished_is_named_and_the_rest_compared(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", 0), write_run(tmp_path / "b", 1, state="running")]
    answer = compare(*runs, "--out", tmp_path)
    assert answer.exit_code == 0
    assert "b is left out: the run has not ended well. It is stopped" in answer.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [(["nothing"], "No run 'nothing'"), (["a", "--baseline", "x"], "--baseline must be one of the settings, made-up")],
)
def test_what_is_not_there_is_refused(
    tmp_path: Path, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    assert said in str(compare(*words).exception) and not (tmp_path / "comparison").exists()


def test_out_must_be_a_folder(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    assert "--out must name a folder for the pictures" in str(compare(tmp_path / "a", "--out", "x.png").exception)
