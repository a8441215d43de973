"""How `fl-app run` ends when nobody is there to follow it, in the run folder's own words."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fl_app.cli.app import app
from fl_app.errors import FlAppError
from fl_app.simulation import follow as module
from fl_app.simulation.flower import choose_home
from fl_app.simulation.follow import write_end
from fl_app.simulation.outcome import Outcome
from fl_app.simulation.processes import Interrupted


def follow(folder: Path, end: BaseException | Outcome, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run with a server that vanishes in round 89, and return the status."""

    def vanish(*_: object) -> tuple[Outcome, str]:
        folder.mkdir(parents=True)
        (folder / "status.json").write_text(json.dumps({"state": "running", "round": 89}))
        if isinstance(end, Outcome):
            return end, ""
        raise end

    monkeypatch.setattr(module, "_follow", vanish)
    monkeypatch.setattr(module, "check_before_start", lambda *_: None)
    arguments = ["run", "--gpu-share", "0", "--out", str(folder.parent), "--set", f"run-name={folder.name}"]
    with suppress(Interrupted):  # which the command line itself handles
        assert CliRunner().invoke(app, arguments).exit_code != 0
    found: dict[str, Any] = json.loads((folder / "status.json").read_text())
    return found


@pytest.mark.parametrize("end", [SystemExit(1), BrokenPipeError(32, "Broken pipe"), Interrupted(2), FlAppError("no")])
def test_a_run_that_is_cut_off_is_left_as_stopped_and_not_as_running(
    tmp_path: Path, end: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = follow(tmp_path / "runs" / "one", end, monkeypatch)
    assert found == {"state": "failed", "round": 89, "reason": "stopped; it can be resumed"}


def test_a_server_that_vanished_is_left_as_failed_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = follow(tmp_path / "runs" / "one", Outcome("failed", "the server stopped while 'running'"), monkeypatch)
    assert found["state"] == "failed" and found["reason"] == "the server stopped while 'running'; it can be resumed"


@pytest.mark.parametrize("state", ["completed", "degraded", "failed"])
def test_a_run_that_has_ended_keeps_its_own_reason(tmp_path: Path, state: str) -> None:
    (tmp_path / "status.json").write_text(json.dumps({"state": state, "reason": "its own"}))
    write_end(tmp_path, "stopped")
    assert json.loads((tmp_path / "status.json").read_text())["reason"] == "its own"


@pytest.mark.parametrize("length", [5, 23, 24, 40, 80])
def test_rays_sockets_have_names_that_the_system_takes_wherever_temporary_files_lie(
    tmp_path: Path, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path("/tmp") / ("a" * (length - 5))
    place.mkdir(exist_ok=True)
    monkeypatch.setattr("tempfile.tempdir", str(place))
    home = choose_home()
    try:
        socket = home / "ray" / "session_2026-11-26_03-09-12_972587_4194304" / "sockets" / "plasma_store"
        assert len(str(socket)) <= 107
    finally:
        home.rmdir()
        if length > 5:
            place.rmdir()
