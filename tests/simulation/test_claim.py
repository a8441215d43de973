"""Two `fl-app run` under one name: one runs, the other is an error that leaves no trace."""

from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from fl_app.cli.app import app
from fl_app.errors import OptionError, RunFolderError
from fl_app.runs.folder import RunFolder
from fl_app.runs.overview import find_strangers
from fl_app.simulation import follow as module
from fl_app.simulation.claim import check_free, claim
from fl_app.simulation.follow import Prepared, prepare, run_to_end
from fl_app.simulation.outcome import Outcome
from tests.runs.test_opening import open_tiny


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "check_before_start", lambda *_: None)


def no_flower(*_: object) -> tuple[Outcome, str]:
    pytest.fail("Flower was started")


def start(out: Path, *settings: str) -> tuple[int, str]:
    """Return exit status and output of `fl-app run`, as long as it starts no Flower."""
    words = [word for setting in settings for word in ("--set", setting)]
    answer = CliRunner().invoke(app, ["run", "--gpu-share", "0", "--out", str(out), *words])
    assert isinstance(answer.exception, RunFolderError), answer.output
    return answer.exit_code, f"{answer.output}{answer.exception}"


@pytest.mark.parametrize("begun", [False, True])
def test_a_run_under_the_name_of_one_that_goes_on_is_one_error_at_once(
    begun: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_follow", no_flower)
    folder = RunFolder(tmp_path / "twin")
    with claim(folder.path, is_new=True):
        if begun:
            folder.lock()
        before = sorted(tmp_path.rglob("*"))
        for setting in ("run-name=twin", f"resume={folder.path}"):
            _, printed = start(tmp_path, setting)
            assert "still going on" in printed and "run folder:" not in printed
        assert sorted(tmp_path.rglob("*")) == before
        folder.unlock()


def test_a_run_that_a_server_alone_runs_is_not_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_follow", no_flower)
    folder = open_tiny(tmp_path, run_name="twin")
    folder.lock()
    assert "still going on" in start(tmp_path, f"resume={folder.path}")[1]
    folder.unlock()
    check_free(folder.path, is_new=False)


def test_of_two_starts_in_the_same_second_the_later_one_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (prepare(None, ["run-name=twin"], 5, tmp_path, 0.0, None) for _ in range(2))

    def follow(run: Prepared, _console: Console) -> tuple[Outcome, str]:
        assert run is first
        before = sorted(tmp_path.rglob("*"))
        console = Console(record=True, quiet=True)
        with pytest.raises(RunFolderError, match=r"twin belongs to a run that is still going on"):
            run_to_end(second, console)
        assert sorted(tmp_path.rglob("*")) == before and console.export_text() == ""
        return Outcome("completed"), ""

    monkeypatch.setattr(module, "_follow", follow)
    assert run_to_end(first, Console(quiet=True))[0].state == "completed"


def test_a_start_whose_server_never_began_leaves_the_name_free(tmp_path: Path) -> None:
    with claim(tmp_path / "runs/one", is_new=True):
        assert find_strangers(tmp_path / "runs") == []
    assert list((tmp_path / "runs").iterdir()) == []
    (tmp_path / "runs/one").mkdir()
    (tmp_path / "runs/one/.start").touch()  # a run that was killed leaves it
    with claim(tmp_path / "runs/one", is_new=True):
        open_tiny(tmp_path / "runs", run_name="one")  # the server takes the claimed folder
    with pytest.raises(OptionError, match="exists already"), claim(tmp_path / "runs/one", is_new=True):
        pass
    assert (tmp_path / "runs/one/run.json").is_file()
