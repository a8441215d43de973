"""The container files through the linters that know their formats."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker.compose_file import DOCKER, ROOT

_PROGRAMS = Path(sys.executable).parent


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("name", ["compose.yaml", "compose.insecure.yaml"])
def test_a_compose_file_fits_the_compose_schema(name: str) -> None:
    answer = run(_PROGRAMS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DOCKER / name)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    answer = run(_PROGRAMS / "hadolint", DOCKER / "Dockerfile")
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("path", sorted(DOCKER.glob("*.sh")), ids=lambda path: path.name)
def test_a_script_is_plain_sh_and_executable(path: Path) -> None:
    answer = run("sh", "-n", path)
    assert answer.returncode == 0, answer.stderr
    assert path.read_text(encoding="utf-8").startswith("#!/bin/sh\n") and path.stat().st_mode & 0o111
