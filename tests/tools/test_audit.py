"""`make audit` never says that all is well if nothing, or not everything, was looked up."""

import json
from pathlib import Path

import pytest

from tools.audit import Audit, look_up, main, read_report, report


def of(*packages: dict[str, object]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


GOOD: dict[str, object] = {"name": "numpy", "version": "2.4", "vulns": []}
BAD: dict[str, object] = {
    "name": "pillow",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": []}, {"id": "PYSEC-2"}],
}
ABSENT: dict[str, object] = {
    "name": "torch",
    "skip_reason": "Dependency not found on PyPI and could not be audited: torch (2.9+cpu)",
}
OURS: dict[str, object] = {"name": "fl-app", "skip_reason": "distribution marked as editable"}


@pytest.mark.parametrize(
    ("packages", "status", "said"),
    [
        ([GOOD, OURS], 0, "1 packages looked up (pypi), none with a known vulnerability."),
        ([GOOD, BAD], 1, "2 packages looked up (pypi), 1 with known vulnerabilities:\n  pillow 1.0: PYSEC-1, PYSEC-2"),
        ([GOOD, ABSENT], 3, "NOT CHECKED, not in the database: torch"),
        ([BAD, ABSENT], 1, "NOT CHECKED, not in the database: torch"),
        ([ABSENT, OURS], 3, "NOT CHECKED for vulnerabilities: no database could be asked."),
    ],
)
def test_the_status_says_which_it_was(packages: list[dict[str, object]], status: int, said: str) -> None:
    text, found = report(read_report("pypi", of(*packages)), [])
    assert found == status and said in text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"dependencies": [5]}', '{"dependencies": [{}]}', "null"])
def test_what_is_no_report_is_no_clean_bill(text: str) -> None:
    assert read_report("pypi", text) is None


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_second_database_is_asked_if_the_first_knows_nothing(tmp_path: Path) -> None:
    answers = f"case \"$*\" in *pypi*) echo '{of(ABSENT)}';; *) echo '{of(GOOD)}';; esac"
    found, reasons = look_up(program(tmp_path / "pip-audit", answers), tmp_path)
    assert found == Audit("osv", ("numpy",), (), {}) and reasons == ["pypi: it answers, but knows no package"]


def test_without_a_database_the_sbom_is_written_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "env/lib/python3.11/site-packages").mkdir(parents=True)
    program(tmp_path / "tools/pip-audit", "echo 'ERROR: no route to host' >&2; exit 1")
    program(tmp_path / "tools/cyclonedx-py", 'for last; do :; done; echo \'{"components": [{}, {}]}\' > "$last"')
    arguments = [str(tmp_path / "env"), "--tools", str(tmp_path / "tools"), "--out", str(tmp_path / "build/sbom.json")]
    assert main(arguments) == 3
    said = capsys.readouterr().out
    assert "SBOM of 2 packages" in said and "NOT CHECKED" in said and "osv: ERROR: no route to host" in said
    program(tmp_path / "tools/cyclonedx-py", "exit 5")
    assert main(arguments) == 2
