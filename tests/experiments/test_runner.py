"""Running cells for real, small ones: each in its process, skipped when finished, resumed when not."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.prototypes import runner
from experiments.prototypes.grid import Cell
from experiments.prototypes.one_cell import run_cell
from experiments.prototypes.results import read_run
from experiments.prototypes.runner import run_cells, state_of
from fl_app.errors import OptionError
from fl_app.runs.recorder import TaskRun

TINY = Cell("heads", "digits", 200, 0.5, "FedProx", 0, num_nodes=3, rounds=(2, 6))


def test_cells_run_in_processes_of_their_own_and_only_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    medical = replace(TINY, part="medical", strategy="FedAvg", rounds=(1, 2), baselines=("centralised",))
    wrong = replace(TINY, source="no-such-source")
    assert run_cells([wrong, medical], tmp_path, jobs=2) == [wrong.name]
    said = capsys.readouterr().out
    assert "0 of 2 runs are finished already." in said and f"{wrong.name} FAILED" in said and "no-such-source" in said
    assert state_of(medical, tmp_path) == "finished"
    assert {row.trained for row in read_run(medical, tmp_path)} == {"federated", "centralised"}
    monkeypatch.setattr(runner, "_job", lambda cell, out: pytest.fail(f"{cell.name} was started again"))
    assert run_cells([medical], tmp_path, jobs=2) == []
    assert "1 of 1 runs are finished already." in capsys.readouterr().out


def test_a_run_that_was_cut_off_goes_on_and_ends_with_the_same_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, uncut = tmp_path / "a", tmp_path / "b"  # messages hold the folder's name: as long, for as many bytes
    run_cell(TINY, uncut)
    checkpoint = TaskRun.checkpoint

    def die_after(self: TaskRun) -> None:
        checkpoint(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(TaskRun, "checkpoint", die_after)
    with pytest.raises(KeyboardInterrupt):
        run_cell(TINY, cut)
    monkeypatch.undo()
    assert state_of(TINY, cut) == "half"
    run_cell(TINY, cut)
    assert state_of(TINY, cut) == "finished"
    assert read_run(TINY, cut) == read_run(TINY, uncut)


def finished(out: Path, changes: dict[str, Any] | None = None) -> Path:
    """Make a folder that looks like the finished run of TINY, its results left out."""
    folder = out / TINY.name
    folder.mkdir(parents=True)
    options = json.loads(json.dumps(TINY.config(out).to_flat())) | (changes or {})
    (folder / "run.json").write_text(json.dumps({"run-name": TINY.name, "options": options}))
    (folder / "status.json").write_text('{"state": "completed"}')
    return folder


def test_a_run_without_all_its_results_is_done_again(tmp_path: Path) -> None:
    folder = finished(tmp_path)
    (folder / "left-over").touch()
    assert state_of(TINY, tmp_path) == "spoilt"
    run_cell(TINY, tmp_path)
    assert state_of(TINY, tmp_path) == "finished" and not (folder / "left-over").exists()


def test_a_folder_with_a_run_of_other_options_stops_all_before_anything_starts(tmp_path: Path) -> None:
    finished(tmp_path, {"classification.learning-rate": 0.5})
    other = replace(TINY, seed=1)
    with pytest.raises(OptionError, match=r"learning-rate \(was 0.5, is 0.02\)"):
        run_cells([other, TINY], tmp_path, jobs=1)
    assert not (tmp_path / "logs").exists()


def test_runs_of_a_moved_folder_are_still_known(tmp_path: Path) -> None:
    finished(tmp_path, {"output-dir": "/elsewhere"})
    assert state_of(TINY, tmp_path) == "spoilt"


def test_an_empty_folder_is_a_new_run(tmp_path: Path) -> None:
    (tmp_path / TINY.name).mkdir()
    assert state_of(TINY, tmp_path) == "new"
