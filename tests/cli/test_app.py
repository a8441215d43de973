"""The command as it is typed: help, version, exit status of wrong options."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fl_app.cli.app import app
from fl_app.cli.options import make_table
from fl_app.errors import OptionError
from fl_app.options.run import RunConfig, describe_options
from fl_app.simulation.app import read_defaults, read_recipe
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
    app = make_fake_app(tmp_path / "app", "complete")
    answer = run_fl_app("run", "--app", str(app), "--out", str(tmp_path / "runs"), "--set", "sede=1")
    assert answer.returncode == 2
    assert answer.stderr == "Error: Option 'sede' does not exist. Did you mean 'seed'?\n"
    assert not (tmp_path / "runs").exists()


def test_a_wrong_flag_exits_with_2() -> None:
    assert run_fl_app("run", "--bogus").returncode == 2


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
    assert {"run", "sample", "predict", "options", "status", "runs", "doctor"} == commands["--json"]
    assert {"sample", "predict", "status", "runs", "bundle-logs"} == commands["--runs"]
    assert {word for word, texts in meanings.items() if len(texts) > 1 and word.startswith("--")} == {"--out"}


def test_the_defaults_are_valid() -> None:
    RunConfig.from_flat(read_defaults(ROOT))


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fl_app.simulation.follow._GPU_DEVICES", ())
    assert choose_gpu_share(None) == 0
    assert choose_gpu_share(0.0) == 0
    with pytest.raises(OptionError, match=r"--gpu-share must be 0, got 0\.5"):
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
