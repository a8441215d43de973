"""An interrupt that comes when a run has just ended, or while it ends: its outcome is told, and no resume offered."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fl_app.cli.app import app
from fl_app.files import write_json
from fl_app.simulation import follow as module
from fl_app.simulation.processes import Interrupted


@dataclass(frozen=True)
class Flower:
    """A simulation whose run is in a state when the interrupt comes.

    Attributes:
        folder: the run folder.
        error: what ends the wait.
    """

    folder: Path
    error: BaseException

    @property
    def log(self) -> Path:
        log = self.folder.parent / "log"
        log.write_text("Flower's last words")
        return log

    def is_running(self) -> bool:
        raise self.error


def end(
    out: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str, error: BaseException | None = None
) -> tuple[int | None, str]:
    """Interrupt a run that is in the state `before`, and in `after` once Flower is stopped: exit status and output."""
    folder = out / "one"

    def write(state: str) -> None:
        reason = "no site was left" if state == "failed" else None
        write_json(folder / "status.json", {"state": state, "reason": reason})

    @contextmanager
    def simulate(*_: object) -> Iterator[Flower]:
        write(before)
        (folder / "metrics.jsonl").write_text('{"task": "diffusion", "round": 1, "outcome": "ok"}\n')
        try:
            yield Flower(folder, error or Interrupted(2))
        finally:
            write(after)

    monkeypatch.setattr(module, "check_before_start", lambda *_: None)
    monkeypatch.setattr(module, "simulate", simulate)
    runner = CliRunner()
    with runner.isolation() as streams:
        words = ["run", "--gpu-share", "0", "--out", str(out), "--set", "run-name=one"]
        status = None
        try:
            status = app(words, standalone_mode=False)
        except Interrupted:
            pass
        except SystemExit as closed:
            status = int(str(closed.code))
        return status, streams[2].getvalue().decode()


@pytest.mark.parametrize(
    ("before", "after", "status", "outcome"),
    [
        ("completed", "completed", 0, "completed"),
        ("degraded", "degraded", 0, "degraded"),
        ("failed", "failed", 1, "failed"),
        ("running", "completed", 0, "completed"),
    ],
)
def test_an_interrupt_after_the_end_does_not_hide_the_outcome(
    before: str, after: str, status: int, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, printed = end(tmp_path, monkeypatch, before, after)
    assert found == status and f"outcome: {outcome}\n" in printed
    assert "Stopped" not in printed and "resume=" not in printed
    assert ("no site was left" in printed) == (outcome == "failed")


@pytest.mark.parametrize("after", ["running", "failed"])
def test_an_interrupt_before_the_end_stops_the_run_which_can_be_resumed(
    after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, printed = end(tmp_path, monkeypatch, "running", after)
    assert found is None and f"--set resume={tmp_path / 'one'}" in printed and "outcome:" not in printed


def test_a_closed_pipe_offers_no_resume_of_a_run_that_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, printed = end(tmp_path, monkeypatch, "completed", "completed", SystemExit(1))
    assert found == 1 and f"The run has ended: completed. Its folder: {tmp_path / 'one'}" in printed
    assert "resume=" not in printed
