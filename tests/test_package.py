"""The wheel alone, installed in an environment of its own, with no checkout anywhere near."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
from flwr.cli.build import build_fab_from_disk

from fl_app.options.sections import OptionValue
from fl_app.runs.folder import RunFolder
from tests.cli.fakes import MARK, find_marked
from tests.federation import run_federation
from tests.tiny import settings_of, tiny_run

ROOT = Path(__file__).parents[1]
_SOURCES = (
    "fl_app", "recipes", "pyproject.toml", "setup.py", "MANIFEST.in", "server_app.py", "client_app.py", "README.md",
    "LICENSE",
)  # fmt: skip
_BOTH: dict[str, OptionValue] = {
    "tasks": "diffusion,classification",
    "data.limit": 200,
    "classification.readings": "consistent,local",
    "classification.learning-rate": 0.005,
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a wheel is built from: setuptools writes beside its sources."""
    folder = tmp_path_factory.mktemp("sources") / "fl-app"
    for name in _SOURCES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "-w", str(folder), str(sources)], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment: fl-app comes from the wheel, all else from where this test runs."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    options = ["--no-deps", "--no-index", "--disable-pip-version-check", "--quiet"]
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    subprocess.run([*pip, "install", "--ignore-installed", *options, str(wheel)], check=True)  # the path may hold one
    packages = next(folder.glob("lib/python*/site-packages"))
    outside = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (packages / "outside.pth").write_text("\n".join(outside) + "\n")  # and no .pth file there: fl-app has one
    for name in ("flwr", "ray"):
        for script in distribution(name).entry_points.select(group="console_scripts"):
            program = f"#!{python}\nimport sys\nfrom {script.module} import {script.attr}\nsys.exit({script.attr}())\n"
            (folder / "bin" / script.name).write_text(program)
            (folder / "bin" / script.name).chmod(0o755)
    return python


def call(python: Path, folder: Path, arguments: Sequence[str], program: str = "fl-app", **variables: str) -> str:
    """Run a program of the environment in a folder, with nothing on its path; return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    command = [str(python.with_name(program)), *arguments]
    answer = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=540
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def test_the_package_is_the_one_of_the_wheel(python: Path, tmp_path: Path) -> None:
    found = call(python, tmp_path, ["-c", "import fl_app; print(fl_app.__file__)"], "python")
    assert Path(found.strip()).is_relative_to(python.parents[1])


def test_options_and_recipes_come_with_the_wheel(python: Path, tmp_path: Path) -> None:
    assert "diffusion.num-rounds" in call(python, tmp_path, ["options"])
    assert "options, all of them fit." in call(python, tmp_path, ["options", "demo"])


@pytest.mark.parametrize("command", ["doctor", "supernode"])
def test_a_hospitals_commands_work_without_a_checkout(python: Path, tmp_path: Path, command: str) -> None:
    assert "--" in call(python, tmp_path, [command, "--help"])


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for the demonstration's temporary files; its path marks the processes."""
    return tmp_path_factory.mktemp("private")


@pytest.fixture(scope="module")
def demonstration(python: Path, private: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demonstration, small, run in an empty folder, and what it printed."""
    folder = tmp_path_factory.mktemp("empty")
    settings = settings_of(tiny_run(folder / "nowhere", _BOTH))
    arguments = ["run", "demo", "--nodes", "2", "--out", "runs", *settings]
    return folder, call(python, folder, arguments, **{MARK: str(private), "TMPDIR": str(private)})


def test_the_demonstration_runs_in_an_empty_folder(demonstration: tuple[Path, str]) -> None:
    folder, printed = demonstration
    assert "outcome: completed" in printed
    assert json.loads((folder / "runs/run/status.json").read_text())["state"] == "completed"
    assert [path.name for path in folder.iterdir()] == ["runs"]


def test_a_completed_run_shows_its_rounds_and_ends_with_its_paths(demonstration: tuple[Path, str]) -> None:
    folder, printed = demonstration
    assert "diffusion round 2/2  loss " in printed
    assert printed.splitlines()[-2:] == [
        f"run folder: {folder}/runs/run",
        f"gallery: {folder}/runs/run/diffusion/samples/final.png",
    ]
    assert "Starting Flower Simulation" in (folder / "runs/run/flower.log").read_text(encoding="utf-8")


def test_a_completed_run_leaves_no_process_and_no_private_folder_behind(
    demonstration: tuple[Path, str], private: Path
) -> None:
    assert find_marked(str(private)) == []
    assert [one.name for one in private.iterdir() if not one.name.startswith("torchinductor_")] == []  # PyTorch's own


def test_a_real_run_ends_with_the_bits_of_the_run_in_one_process(
    demonstration: tuple[Path, str], tmp_path: Path
) -> None:
    folder, printed = demonstration
    assert "FedAvg + prototypes" in printed
    run_federation(tiny_run(tmp_path, _BOTH), 2)
    real, local = folder / "runs/run", tmp_path / "run"
    for task in ("diffusion", "classification"):
        theirs, ours = (RunFolder(path).last_checkpoint(task) for path in (real, local))
        assert theirs is not None and ours is not None
        assert all(np.array_equal(theirs.models["raw"][key], value) for key, value in ours.models["raw"].items())
    prototypes = [(path / "classification/prototypes/round-0002.json").read_text() for path in (real, local)]
    assert prototypes[0] == prototypes[1]


def test_the_wheels_app_makes_the_same_bundle_as_the_checkout(python: Path, sources: Path, tmp_path: Path) -> None:
    call(python, tmp_path, ["write-app", "written"])
    bundle = build_fab_from_disk(tmp_path / "written")
    assert bundle == build_fab_from_disk(sources)
    assert call(python, tmp_path, ["code-hash"]).strip() == hashlib.sha256(bundle).hexdigest()


def test_the_wheel_says_that_it_is_typed_and_holds_nothing_beside_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "fl_app/py.typed" in names
    assert {name.partition("/")[0] for name in names} == {"fl_app", "fl_app-0.1.0.dist-info"}
