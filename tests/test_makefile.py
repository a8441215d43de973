"""What `make` says where it cannot work."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make_install(checkout: Path, python: Path) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", f"PYTHON={python}", "install"]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)


def write_program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_an_old_python_is_refused_with_its_version(checkout: Path) -> None:
    python = write_program(checkout / "python3", '[ "$1" = -V ] && echo Python 3.9.1 || exit 1')
    answer = make_install(checkout, python)
    assert answer.returncode != 0
    assert f"fl-app needs Python 3.11 or newer, but '{python}' is Python 3.9.1." in answer.stderr
    assert not (checkout / ".venv").exists()


def test_a_python_that_is_not_there_is_refused(checkout: Path) -> None:
    answer = make_install(checkout, checkout / "nothing")
    assert answer.returncode != 0
    assert "missing." in answer.stderr


def test_a_python_without_venv_is_told_what_to_install(checkout: Path) -> None:
    python = write_program(checkout / "python3", 'case "$2" in *venv*) exit 1;; esac')
    answer = make_install(checkout, python)
    assert answer.returncode != 0
    assert "apt install python3-venv" in answer.stderr
