"""The report of a run that goes on: written after each round and at the end, and never at the run's cost."""

from pathlib import Path

import pytest

from fl_app.runs.overview import look_at
from fl_app.runs.report import live
from tests.federation import run_federation
from tests.tiny import tiny_run

pytestmark = pytest.mark.usefixtures("undrawn")


def test_a_report_follows_each_round_and_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, int]] = []

    def write(folder: Path) -> None:
        seen = look_at(folder, 0.0)
        written.append((seen.state, seen.progress.round))

    monkeypatch.setattr(live, "write_report", write)
    monkeypatch.setattr(live, "_MOST_SHARE", 1e9)
    run_federation(tiny_run(tmp_path), 2)
    assert written == [("running", 1), ("running", 2), ("completed", 2)]


def test_a_report_that_cannot_be_written_costs_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_folder: Path) -> None:
        raise MemoryError

    monkeypatch.setattr(live, "write_report", fail)
    run_federation(tiny_run(tmp_path), 2)
    assert look_at(tmp_path / "run", 0.0).state == "completed"
    assert "The report could not be written: MemoryError" in (tmp_path / "run" / "run.log").read_text(encoding="utf-8")
