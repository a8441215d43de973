"""What `tools/browser.sh` does where something cannot be had: the check goes on, and the reason is named."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "browser.sh"
PROGRAMS = ("sh", "mkdir", "dirname", "tail", "timeout", "tar", "gzip", "sha256sum")
NOTHING = "echo 'E: no such package' >&2; exit 100"
ANOTHER_FILE = 'mkdir package; echo other > package/axe.min.js; tar -czf "$5/axe-core-${6#*@}.tgz" package'


def write_program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def run_script(folder: Path, apt_get: str, npm: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of the script where nothing but `PROGRAMS` and these two are installed."""
    for name in ("tools", "programs"):
        (folder / name).mkdir()
    for name in PROGRAMS:
        found = shutil.which(name)
        assert found is not None
        (folder / "programs" / name).symlink_to(found)
    write_program(folder / "programs" / "apt-get", apt_get)
    write_program(folder / "programs" / "npm", npm)
    script = shutil.copy(SCRIPT, folder / "tools")
    environment = {"PATH": str(folder / "programs")}
    return subprocess.run([script], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("npm", "reason"), [(NOTHING, "E: no such package"), (ANOTHER_FILE, "SHA-256 of its axe.min.js is not")]
)
def test_what_cannot_be_had_is_named_and_nothing_fails(tmp_path: Path, npm: str, reason: str) -> None:
    answer = run_script(tmp_path, NOTHING, npm)
    assert answer.returncode == 0 and answer.stdout == ""
    chromium, axe = answer.stderr.splitlines()
    assert chromium.startswith("No chromium, so all tests of tests/runs/report/test_browser.py skip: E: no such")
    assert axe.startswith("No axe-core 4") and reason in axe


def test_old_lists_of_packages_are_read_anew(tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    apt_get = f'if [ "$1" = update ]; then echo new > {lists}; else [ -f {lists} ] || {{ {NOTHING}; }}; fi'
    answer = run_script(tmp_path, apt_get, NOTHING)
    assert lists.is_file() and "chromium" not in answer.stderr
