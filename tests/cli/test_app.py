"""The command as it is typed: help, version, exit status of wrong options."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fl_app.cli.app import app, run_command_line
from fl_app.cli.options import make_table
from fl_app.cli.words import check_file
from fl_app.errors import OptionError, did_you_mean
from fl_app.options.app_files import read_defaults
from fl_app.options.run import RunConfig, describe_options
from fl_app.simulation.app import read_recipe
from fl_app.simulation.follow import choose_gpu_share
from tests.cli.fakes import make_fake_app

ROOT = Path(__file__).parents[2]
_HEAVY = ("torch", "flwr", "ray", "diffusers", "sklearn", "scipy", "matplotlib", "numpy")


def run_fl_app(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from fl_app.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_names_the_commands_and_the_version_is_known() -> None:
    shown = run_fl_app("--help")
    assert shown.returncode == 0
    assert all(command in shown.stdout for command in ("run", "options"))
    assert run_fl_app("--version").stdout.startswith("fl-app ")


def test_the_command_line_imports_nothing_heavy() -> None:
    program = f"import sys, fl_app.cli.app; print([name for name in {_HEAVY} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"


def test_a_wrong_option_of_a_run_exits_with_2_and_starts_nothing(tmp_path: Path) -> None:
    app = make_fake_app(tmp_path / "app", "raise")
    answer = run_fl_app("run", "--app", str(app), "--out", str(tmp_path / "runs"), "--set", "sede=1")
    assert answer.returncode == 2
    assert answer.stderr == "Error: Option 'sede' does not exist. Did you mean 'seed'?\n"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sampl"], "No such command 'sampl'. Did you mean 'sample'? See `fl-app --help`."),
        (["run", "--gpu-share", "x"], "--gpu-share must be a number of at least 0, got 'x'. See `fl-app run --help`."),
        (["run", "--nodes", "0"], "--nodes must be a whole number of at least 1, got 0. See `fl-app run --help`."),
        (
            ["certificates", "--host", "a", "--days", "x"],
            "--days must be a whole number from 1 to 3649, got 'x'. See `fl-app certificates --help`.",
        ),
        (["sample", "run"], "Missing option '--out'. See `fl-app sample --help`."),
    ],
)
def test_wrong_words_get_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["anything", *arguments])
    with pytest.raises(SystemExit) as ended:
        run_command_line()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"Error: {said}\n"


@pytest.mark.parametrize(("arguments", "status"), [(["options", "seed"], 0), (["status", "no-such-run"], 2), ([], 2)])
def test_the_exit_status_is_that_of_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], status: int
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["fl-app", *arguments, *(["--runs", str(tmp_path)] if status and arguments else [])]
    )
    with pytest.raises(SystemExit) as ended:
        run_command_line()
    assert (ended.value.code or 0) == status


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("seed", ["seed"]),
        ("diffusion.batch-size", ["diffusion.batch-size"]),
        ("admission", ["max-weight", "max-share", "max-update-norm-ratio", "norm-window"]),
    ],
)
def test_an_option_or_a_section_is_looked_up(name: str, found: list[str]) -> None:
    shown = json.loads(CliRunner().invoke(app, ["options", name, "--app", str(ROOT), "--json"]).stdout)
    assert [one["name"].removeprefix("admission.") for one in shown["options"]] == found


def test_an_option_that_does_not_exist_is_no_recipe() -> None:
    answer = CliRunner().invoke(app, ["options", "diffusion.batchsize", "--app", str(ROOT)])
    assert str(answer.exception) == (
        "Option 'diffusion.batchsize' does not exist. Did you mean 'diffusion.batch-size'?"
    )


def test_a_result_file_needs_a_folder_that_exists(tmp_path: Path) -> None:
    check_file(tmp_path / "a.csv")
    with pytest.raises(OptionError, match=r"which is no folder\. Make that folder first"):
        check_file(tmp_path / "x" / "a.csv")


def test_a_hint_resembles_the_word_and_a_number_has_none() -> None:
    assert did_you_mean("nope", ["stopped"]) == ""
    assert did_you_mean("stoped", ["stopped"]) == " Did you mean 'stopped'?"
    assert did_you_mean("99", ["9"]) == ""


def test_every_option_is_listed_with_its_default() -> None:
    table = make_table(read_defaults(ROOT))
    names = [str(cell) for cell in table.columns[0].cells]
    assert names == [name for name, _ in describe_options()]
    assert set(names) == set(read_defaults(ROOT))
    assert "" not in [str(cell) for cell in table.columns[1].cells]


def test_options_as_json_hold_every_option_and_of_a_recipe_what_it_sets() -> None:
    found = json.loads(CliRunner().invoke(app, ["options", "--app", str(ROOT), "--json"]).stdout)
    assert {one["name"]: one["default"] for one in found["options"]} == read_defaults(ROOT)
    found = json.loads(CliRunner().invoke(app, ["options", "demo", "--app", str(ROOT), "--json"]).stdout)
    assert found["recipe"] == "demo"
    assert {one["name"]: one["value"] for one in found["options"]} == read_recipe("demo", ROOT)


def test_a_recipe_that_does_not_exist_gets_a_similar_one_as_a_hint() -> None:
    with pytest.raises(OptionError, match=r"Did you mean 'fashion-mnist'\?$"):
        read_recipe("fashion_mnist", ROOT)


def test_an_option_word_means_the_same_in_every_command() -> None:
    meanings: dict[str, set[str]] = {}
    commands: dict[str, set[str]] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        for one in command.params:
            for word in one.opts if not getattr(one, "hidden", False) else ():
                commands.setdefault(word, set()).add(name)
                meanings.setdefault(word, set()).add(str(getattr(one, "help", "")))
    with_json = {
        "run",
        "repeat",
        "compare",
        "sample",
        "predict",
        "options",
        "status",
        "runs",
        "report",
        "doctor",
        "copies",
        "sent",
        "sites",
    }
    assert with_json == commands["--json"]
    assert {"compare", "sample", "predict", "status", "runs", "report", "copies", "bundle-logs"} == commands["--runs"]
    assert {word for word, texts in meanings.items() if len(texts) > 1 and word.startswith("--")} == {"--out"}


def test_the_defaults_are_valid() -> None:
    RunConfig.from_flat(read_defaults(ROOT))


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fl_app.simulation.follow._GPU_DEVICES", ())
    assert choose_gpu_share(None) == 0
    assert choose_gpu_share(0.0) == 0
    with pytest.raises(OptionError, match=r"The GPU share must be 0, got 0\.5"):
        choose_gpu_share(0.5)


def test_a_study_is_checked_before_it_is_submitted(tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text('tasks = "classification"\n[federation]\nmin-nodes = 3\n')
    answer = run_fl_app("options", str(study), "--app", str(ROOT))
    assert answer.returncode == 0 and "federation.min-nodes = 3\n" in answer.stdout
    assert answer.stdout.endswith(f"{study}: 3 options, all of them fit.\n")
    study.write_text("[federation]\nmin-nods = 3\n")
    answer = run_fl_app("options", str(study), "--app", str(ROOT))
    assert answer.returncode == 2
    assert answer.stderr == "Error: Option 'federation.min-nods' does not exist. Did you mean 'federation.min-nodes'?\n"


def test_a_study_with_a_source_that_does_not_exist_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text('data.source = "foldr"\n')
    answer = CliRunner().invoke(app, ["options", str(tmp_path / "study.toml"), "--app", str(ROOT)])
    assert "folder" in str(answer.exception) and "fit" not in answer.stdout
