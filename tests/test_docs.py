"""The pages of the Python interface: every name is there, and no docstring is malformed."""

import subprocess
import sys
from pathlib import Path

import pytest

import fl_app

PAGES = Path(__file__).parents[1] / "docs" / "api"


def test_every_name_of_the_interface_has_its_place_on_a_page() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES.glob("*.rst"))
    assert [name for name in fl_app.__all__ if f":: fl_app.{name}\n" not in text] == []


def test_the_pages_are_made_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(tmp_path / "cache")]
    answer = subprocess.run(
        [*command, "-b", "html", str(PAGES), str(tmp_path / "pages")], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert "Simulate a federation on this machine" in (tmp_path / "pages" / "runs.html").read_text(encoding="utf-8")
