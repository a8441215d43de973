"""How `fl-app run` ends when nobody is there to follow it, in the run folder's own words."""

import itertools
import json
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from fl_app.cli.app import app
from fl_app.cli.run import resume_command, run
from fl_app.errors import FlAppError
from fl_app.files import to_json
from fl_app.metrics.audited import Membership
from fl_app.options.app_files import own_app
from fl_app.runs.audit import Audit
from fl_app.runs.documents import RunStatus
from fl_app.runs.progress import RunReader
from fl_app.simulation import follow as module
from fl_app.simulation.choices import plan_run
from fl_app.simulation.flower import choose_home
from fl_app.simulation.follow import Prepared, write_end
from fl_app.simulation.outcome import Outcome
from fl_app.simulation.processes import Interrupted


def follow(folder: Path, end: BaseException | Outcome, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run with a server that vanishes in round 89, and return the status."""

    def vanish(*_: object) -> tuple[Outcome, str]:
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
    assert found == to_json(RunStatus("failed", round=89, reason="stopped; it can be resumed"))


def test_a_server_that_vanished_is_left_as_failed_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = follow(tmp_path / "runs" / "one", Outcome("failed", "the server stopped while 'running'"), monkeypatch)
    assert found["state"] == "failed" and found["reason"] == "the server stopped while 'running'; it can be resumed"


def prepared(recipe: str, settings: list[str]) -> Prepared:
    """Return a run that is checked, without looking at its images; its folder is there."""
    plan = plan_run(own_app(), recipe, settings, Path("runs"), 2)
    assert plan.folder is not None
    plan.folder.mkdir(parents=True)
    (plan.folder / "run.json").touch()
    return Prepared(own_app().resolve(), plan, 2, 0.0, RunReader(plan.folder, since=0.0))


def test_the_command_that_goes_on_means_the_same_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("study.toml").write_text('tasks = "diffusion"\n[data]\ndirectory = "images"\n')
    settings = ["seed=3", "run-name=one", "output-dir=elsewhere"]
    first = prepared("study.toml", settings)
    command = shlex.split(resume_command(first, "study.toml", settings, None, None))
    assert command[:5] == ["fl-app", "run", str(tmp_path / "study.toml"), "--nodes", "2"]
    assert command[5:] == [
        *("--set", "seed=3"),
        *("--set", f"data.directory={tmp_path / 'images'}"),
        *("--set", f"resume={tmp_path / 'runs' / 'one'}"),
        *("--out", str(tmp_path / "runs")),
    ]
    monkeypatch.chdir("/")
    settings = [word for option, word in itertools.pairwise(command) if option == "--set"]
    plan = plan_run(own_app(), command[2], settings, Path(command[-1]), 2)
    changed = {name for name, value in plan.overrides.items() if first.plan.overrides.get(name) != value}
    assert changed == {"resume"}


def end_with(outcome: Outcome, out: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> Result:
    """Return what `fl-app run` prints if the run ends so."""

    def run_to_end(_prepared: Prepared, console: Console) -> tuple[Outcome, str]:
        console.print("training diffusion")
        return outcome, "Flower's last words"

    monkeypatch.setattr(module, "check_before_start", lambda *_: None)
    monkeypatch.setattr("fl_app.cli.run.run_to_end", run_to_end)
    arguments = ["run", "--gpu-share", "0", "--out", str(out), "--set", "run-name=one", *more]
    return CliRunner().invoke(app, arguments)


def test_json_is_one_document_and_all_else_is_on_stderr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "done/classification/comparison.csv"
    table.parent.mkdir(parents=True)
    (tmp_path / "done/report.html").touch()
    table.write_text(
        "approach,head,images,n,accuracy,auc,home-n,home-accuracy\nFedAvg (ships),linear,test,9,0.5,not defined,,\n"
    )
    outcome = Outcome("degraded", "late", {"north": "1 late"}, tmp_path / "done", tmp_path / "done/gallery.png")
    answer = end_with(outcome, tmp_path / "runs", monkeypatch, "--json")
    found = json.loads(answer.stdout)
    assert (found["state"], found["sites"], found["gallery"]) == (
        "degraded",
        {"north": "1 late"},
        str(tmp_path / "done/gallery.png"),
    )
    assert found["report"] == str(tmp_path / "done/report.html") and f"report: {found['report']}" in answer.stderr
    row = found["comparison"][0]
    assert (row["approach"], row["accuracy"], row["auc"], row["home-n"]) == ("FedAvg (ships)", 0.5, "not defined", None)
    assert "training diffusion" in answer.stderr and "outcome: degraded" in answer.stderr
    assert answer.exit_code == 0


def test_a_resume_that_finds_nothing_is_said_before_the_new_run_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "check_before_start", lambda *_: None)
    monkeypatch.setattr(module, "_follow", lambda *_: (Outcome("completed"), ""))
    words = ["run", "--gpu-share", "0", "--out", str(tmp_path), "--set", "resume=auto", "--set", "run-name=one"]
    lines = CliRunner().invoke(app, words).output.splitlines()
    said = f"resume=auto found nothing to resume in {tmp_path}: a new run begins."
    assert lines[:2] == [said, f"run folder: {tmp_path / 'one'}"]


def test_the_end_tells_what_the_audit_found_and_why_a_run_without_troubled_sites_is_degraded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Membership(verdict="exceeded", reason="AUC 0.99", num_train=9, num_held_out=8, num_test=7)
    (tmp_path / "done" / "diffusion").mkdir(parents=True)
    document = Audit(membership=found, max_auc=0.65, is_quarantined=True)
    (tmp_path / "done" / "diffusion" / "audit.json").write_text(json.dumps(to_json(document)))
    outcome = Outcome("degraded", "the diffusion model is quarantined", {}, tmp_path / "done")
    answer = end_with(outcome, tmp_path / "runs", monkeypatch)
    assert "Warning: the run is degraded: the diffusion model is quarantined\n" in answer.stderr
    images = "9 training, 8 held-out and 7 test images of 0 sites"
    line = f"membership audit: exceeded: AUC 0.99 ({images}). Copies were not searched. The model is quarantined\n"
    assert line in answer.stdout
    answer = end_with(outcome, tmp_path / "more", monkeypatch, "--json")
    audit = json.loads(answer.stdout)["audit"]
    assert (audit["membership"]["verdict"], audit["max-auc"], audit["is-quarantined"]) == ("exceeded", 0.65, True)
    (tmp_path / "done" / "diffusion" / "audit.json").write_text("{")
    answer = end_with(outcome, tmp_path / "last", monkeypatch, "--json")
    assert "audit.json is damaged" in answer.stderr and json.loads(answer.stdout)["audit"] is None


def test_quiet_prints_errors_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = end_with(Outcome("degraded", None, {"north": "1 late"}), tmp_path, monkeypatch, "--quiet")
    assert (answer.exit_code, answer.output) == (0, "")
    answer = end_with(Outcome("failed", "no round counted"), tmp_path, monkeypatch, "--quiet")
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert answer.stderr == "Flower's last words\n\nThe run failed: no round counted\n"


def test_a_stopped_run_says_as_json_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "check_before_start", lambda *_: None)

    def stop(run: Prepared, _console: Console) -> None:
        assert run.plan.folder is not None
        run.plan.folder.mkdir(parents=True)
        (run.plan.folder / "run.json").touch()
        raise Interrupted(2)

    monkeypatch.setattr("fl_app.cli.run.run_to_end", stop)
    with pytest.raises(Interrupted):
        run(None, 2, ["run-name=one"], tmp_path, 0.0, None, as_json=True)
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["state"] == "stopped" and found["resume"] in printed.err
    assert f"--set resume={tmp_path / 'one'} --out {tmp_path}" in found["resume"]


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
