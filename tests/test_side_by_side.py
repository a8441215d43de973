"""Tests run in several processes: which of them stay together, and that a process that dies is told."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import RAY, find_lane

ROOT = Path(__file__).parents[1]

DIES = """
import os

def test_one():
    pass

def test_that_ends_the_process():
    os._exit(0)
"""


def test_files_that_start_ray_follow_one_another_and_any_other_file_stands_alone() -> None:
    assert all((ROOT / file).is_file() for file in RAY)
    assert {find_lane(f"{file}::test_a[x::y]") for file in RAY} == {"ray"}
    assert find_lane("tests/api/test_run.py::test_a") == find_lane("tests/api/test_classifier.py::test_b") != "ray"
    assert find_lane("tests/test_sums.py::test_a") == find_lane("tests/test_sums.py::test_b") == "tests/test_sums.py"


def test_a_process_that_dies_fails_by_the_name_of_its_test(tmp_path: Path) -> None:
    (tmp_path / "test_dies.py").write_text(DIES)
    (words,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if "--maxprocesses" in line]
    options = words.split("pytest ")[1].split()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, "test_dies.py"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert "crashed while running 'test_dies.py::test_that_ends_the_process'" in answer.stdout
