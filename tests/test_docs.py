"""The pages of the Python interface: every name is there, and no docstring is malformed."""

import csv
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

import fl_app
from fl_app.cli.app import app

PAGES = Path(__file__).parents[1] / "docs" / "api"

# How the experiment calls each value of `classification.abstain-by` that the table of docs/prototypes.md shows, and
# which of the experiment's columns each column of that table covers.
ABSTAIN_TESTS = {"mahalanobis-or-picture": "mahalanobis or pixels", "mahalanobis": "mahalanobis"}
ABSTAIN_COLUMNS = {
    "uniform or Gaussian noise": ("uniform noise", "Gaussian noise"),
    "constant images": ("constant",),
    "another data set": ("another data set",),
    "wrong answers": ("wrong answers",),
    "right answers": ("right answers",),
}


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


def test_the_table_of_abstain_shows_what_was_measured() -> None:
    found = _table(PAGES.parent / "prototypes.md", "`abstain-by`, `abstain-quantile`")
    assert found[0][1:] == list(ABSTAIN_COLUMNS)
    tests = [row[0].replace("`", "").split(", ") for row in found[1:]]
    assert len(tests) == 3
    measured = [[f"`{by}`, {quantile}", *_abstained(ABSTAIN_TESTS[by], quantile)] for by, quantile in tests]
    assert found[1:] == measured


def _abstained(test: str, quantile: str) -> list[str]:
    """Return a row's shares: from the lowest to the highest mean over the seeds of a kind of data."""
    with (PAGES.parent / "results" / "heads-abstain.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["test"], row["quantile"]) == (test, quantile)]
    assert rows
    cells = []
    for columns in ABSTAIN_COLUMNS.values():
        shares: dict[tuple[str, str], list[float]] = defaultdict(list)
        for row in rows:
            for column in columns:
                shares[row["data"], column].append(100 * float(row[column]))
        means = [float(np.nanmean(values)) for values in shares.values()]
        is_always_all = min(min(values) for values in shares.values()) == 100
        cells.append("100 % in every run" if is_always_all else f"{min(means):.0f}-{max(means):.0f} %")
    return cells


def _table(page: Path, first: str) -> list[list[str]]:
    """Return the cells of a page's table, the line of dashes left out, by the first cell of its head."""
    lines = iter(page.read_text(encoding="utf-8").splitlines())
    rows = [next(line for line in lines if line.startswith(f"| {first} |"))]
    next(lines)
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append(line)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_pages_are_made_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(tmp_path / "cache")]
    answer = subprocess.run(
        [*command, "-b", "html", str(PAGES), str(tmp_path / "pages")], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert "Simulate a federation on this machine" in (tmp_path / "pages" / "runs.html").read_text(encoding="utf-8")
