"""`fl-app repeat`: a whole grid, what goes on in it, what it leaves, and how it is gone on with."""

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fl_app.cli import repeat as module
from fl_app.cli.app import app
from fl_app.errors import FlAppError, OptionError
from fl_app.grids.document import read_grid
from fl_app.options.app_files import own_app, read_defaults
from fl_app.options.run import RunConfig
from fl_app.runs.folder import RunFolder
from fl_app.simulation.choices import parse_settings
from fl_app.simulation.processes import Interrupted
from fl_app.simulation.repeat import Ended, Job, Show
from tests.federation import run_federation
from tests.tiny import settings_of, tiny_run

pytestmark = pytest.mark.usefixtures("undrawn")
_OWN = ("output-dir", "run-name", "resume", "seed", "tasks", "recipe")
Work = Callable[[Sequence[Job], int, Show], list[Ended]]


def options_of(job: Job) -> RunConfig:
    """Return the options that a run's process reads from its command."""
    settings = [job.command[at + 1] for at, word in enumerate(job.command) if word == "--set"]
    defaults = read_defaults(own_app())
    return RunConfig.from_flat({**defaults, **parse_settings(settings, defaults), "federation.wait-seconds": 0.2})


def in_this_process(jobs: Sequence[Job], at_once: int, show: Show) -> list[Ended]:
    """Run each job here, on the real server and the real ClientApp, in place of Flower's processes."""
    ended: list[Ended] = []
    for job in jobs:
        try:
            run_federation(options_of(job), 2)
            ended.append(Ended(job, 0, 1.0))
        except FlAppError as error:
            ended.append(Ended(job, 1, 1.0, str(error)))
        show([], ended)
    return ended


def repeat(out: Path, *words: str, varied: str = "") -> Result:
    """Run a tiny grid of two nodes; `varied`: the option that is not set but varied."""
    tiny = settings_of(tiny_run(out, {"classification.num-rounds": 1}))
    pairs = [tiny[at : at + 2] for at in range(0, len(tiny), 2)]
    kept = [word for pair in pairs if pair[1].partition("=")[0] not in (*_OWN, varied) for word in pair]
    arguments = ["repeat", "--nodes", "2", "--out", str(out), *kept, "--set", "tasks=classification", *words]
    return CliRunner().invoke(app, arguments)


def compare_strategies(out: Path, *words: str) -> Result:
    strategies = ["--vary", "classification.strategy=FedAvg,FedProx", "--seeds", "2"]
    return repeat(out, *strategies, *words, varied="classification.strategy")


def test_one_command_leads_from_nothing_to_table_and_pictures_and_a_second_one_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "run_jobs", in_this_process)
    answer = compare_strategies(tmp_path / "grid")
    assert answer.exit_code == 0, answer.output
    lines = answer.stdout.splitlines()
    assert lines[0] == f"grid: {tmp_path / 'grid'}"
    assert lines[1].startswith("0 of 4 runs are finished already; 4 to do, ")
    assert any(line.startswith("[4/4] strategy-FedProx-seed-1: completed, 0:01, classification loss") for line in lines)
    made = {path.name for path in (tmp_path / "grid").iterdir()}
    assert {"comparison.csv", "comparison.md", "accuracy.svg", "accuracy.png", "grid.json"} <= made
    page = (tmp_path / "grid" / "comparison.md").read_text(encoding="utf-8")
    assert "| FedProx | classification.strategy = FedProx | digits, limit 60 | iid | 0, 1 |" in page

    monkeypatch.setattr(module, "run_jobs", lambda jobs, at_once, show: [pytest.fail(job.name) for job in jobs])
    again = compare_strategies(tmp_path / "grid", "--json", "--baseline", "FedProx")
    found = json.loads(again.stdout)
    assert again.exit_code == 0 and found["failed"] == {} and len(found["files"]) >= 5
    assert found["comparison"]["baseline"] == "FedProx"
    assert list(found["comparison"]["settings"]) == ["FedAvg", "FedProx"]


def fail_second(jobs: Sequence[Job], at_once: int, show: Show) -> list[Ended]:
    return [*in_this_process(jobs[:1], at_once, show), Ended(jobs[1], 1, 2.0, "nothing was learned")]


def test_a_failed_run_is_said_the_others_are_compared_and_the_status_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "run_jobs", fail_second)
    answer = repeat(tmp_path / "grid", "--seeds", "2", "--json")
    assert answer.exit_code == 1
    found = json.loads(answer.stdout)
    assert found["failed"] == {"default-seed-1": "nothing was learned"}
    assert "1 of 2 runs failed: default-seed-1" in answer.stderr and "Run them again" in answer.stderr
    assert found["comparison"]["problems"] == ["default-seed-1 is left out: it has not been started."]


def test_a_baseline_whose_runs_all_failed_gives_way_and_this_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "run_jobs", fail_second)
    words = ["--seeds", "1", "--vary", "classification.strategy=FedAvg,FedProx", "--baseline", "FedProx", "--json"]
    answer = repeat(tmp_path / "grid", *words, varied="classification.strategy")
    assert "No run of 'FedProx' is finished: differences are taken to 'FedAvg'." in answer.stderr
    assert json.loads(answer.stdout)["comparison"]["baseline"] == "FedAvg"


def test_a_quiet_grid_says_only_why_runs_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run_jobs", fail_second)
    answer = repeat(tmp_path / "grid", "--seeds", "2", "--quiet")
    assert answer.stdout == "" and "default-seed-1: nothing was learned" in answer.stderr


def test_if_all_runs_fail_nothing_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run_jobs", lambda jobs, *_: [Ended(job, 1, 1.0, "no") for job in jobs])
    answer = repeat(tmp_path / "grid", "--seeds", "2")
    assert answer.exit_code == 1 and "Nothing is compared: There is no finished run" in answer.stderr


def test_a_damaged_run_counts_as_failed_and_the_others_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run_jobs", in_this_process)
    (tmp_path / "grid" / "default-seed-0").mkdir(parents=True)
    (tmp_path / "grid" / "default-seed-0" / "run.json").write_text("{")
    answer = repeat(tmp_path / "grid", "--seeds", "2")
    assert answer.exit_code == 1
    assert "default-seed-0 FAILED: " in answer.stdout and "[1/2] default-seed-1: completed" in answer.stdout


def test_a_stopped_grid_says_how_to_go_on_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> list[Ended]:
        raise Interrupted(2)

    monkeypatch.setattr(module, "run_jobs", stop)
    monkeypatch.chdir(tmp_path)
    Path("study.toml").write_text('tasks = "classification"\ndata.source = "digits"\n')
    said: list[str] = []
    monkeypatch.setattr("fl_app.cli.words.Voice.warn", lambda self, text: said.append(text))
    words = [
        "repeat",
        "study.toml",
        "--seeds",
        "2",
        "--first-seed",
        "7",
        "--vary",
        "data.limit=100,200",
        "--nodes",
        "2",
    ]
    with pytest.raises(Interrupted):
        CliRunner().invoke(app, [*words, "--out", "grid", "--set", "data.test-share=0.3"], catch_exceptions=False)
    command = shlex.split(said[0].splitlines()[1])
    assert command[:2] == ["fl-app", "repeat"] and command[2] == str(tmp_path / "study.toml")
    assert command[3:11] == ["--seeds", "2", "--first-seed", "7", "--vary", "data.limit=100,200", "--nodes", "2"]
    assert command[11:] == ["--set", "data.test-share=0.3", "--out", str(tmp_path / "grid")]
    assert len(read_grid(tmp_path / "grid").cells) == 4  # it can be compared, and gone on with


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--vary", "classification.strateg=a"], "Did you mean 'classification.strategy'"),
        (["--vary", "export.licence=a,b", "--baseline", "c"], "one of the settings, a; b, got 'c'"),
        (["--baseline", "c"], "there is one only, without --vary, got 'c'"),
        (["--set", "seed=3"], "A grid sets 'seed'"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_written(
    tmp_path: Path, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "run_jobs", lambda *_: pytest.fail("a run was started"))
    answer = repeat(tmp_path / "grid", *words, varied="export.licence")
    assert answer.exit_code != 0 and not (tmp_path / "grid").exists()
    assert isinstance(answer.exception, OptionError) and said in str(answer.exception)


def test_two_grids_in_one_folder_at_once_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run_jobs", lambda *_: pytest.fail("a run was started"))
    (tmp_path / "grid").mkdir()
    other = RunFolder(tmp_path / "grid")
    other.lock()
    answer = repeat(tmp_path / "grid")
    other.unlock()
    assert "belongs to a run that is still going on" in str(answer.exception)
