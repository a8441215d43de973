"""The pages of the Python interface: every name is there, and no docstring is malformed."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import fl_app
from fl_app.cli.app import app

PAGES = Path(__file__).parents[1] / "docs" / "api"


def test_every_name_of_the_interface_has_its_place_on_a_page() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES.glob("*.rst"))
    assert [name for name in fl_app.__all__ if f":: fl_app.{name}\n" not in text] == []


def test_every_command_and_every_word_of_one_is_in_the_table_of_commands() -> None:
    text = (PAGES.parent / "commands.md").read_text(encoding="utf-8")
    missing = [name for name, _ in _commands(get_command(app), "") if f"`{name}" not in text]
    missing += [
        f"{name} {word}"
        for name, command in _commands(get_command(app), "")
        for one in command.params
        for word in one.opts
        if word.startswith("-") and not getattr(one, "hidden", False) and f"`{word}" not in text
    ]
    assert missing == []


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield each command by its whole name."""
    below = getattr(command, "commands", None)
    if below is None:
        yield name.strip(), command
    for word, one in (below or {}).items():
        yield from _commands(one, f"{name} {word}")


def test_the_pages_are_made_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(tmp_path / "cache")]
    answer = subprocess.run(
        [*command, "-b", "html", str(PAGES), str(tmp_path / "pages")], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert "Simulate a federation on this machine" in (tmp_path / "pages" / "runs.html").read_text(encoding="utf-8")
