"""What every benchmark prints: a small table, and the same rows as JSON or CSV if asked for."""

import argparse
import csv
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from fl_app.errors import FlAppError

Row = dict[str, Any]


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks share."""
    built = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    built.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")
    built.add_argument("--csv", type=Path, metavar="FILE", help="write the rows there as well, an empty cell for None")
    built.add_argument("--threads", type=int, default=1, help="torch threads (default: 1)")
    return built


def run(measure: Callable[[argparse.Namespace], Iterable[Row]], arguments: argparse.Namespace) -> None:
    """Measure, write the files after each row, print the table; a known error ends the program with its text alone."""
    torch.set_num_threads(arguments.threads)
    rows: list[Row] = []
    try:
        for row in measure(arguments):
            rows.append(row)
            _write(rows, arguments)
    except FlAppError as error:
        raise SystemExit(f"{error}") from None
    print(table(rows))


def _write(rows: list[Row], arguments: argparse.Namespace) -> None:
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if arguments.csv:
        with arguments.csv.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def table(rows: Sequence[Row]) -> str:
    """Lay rows of the same keys out in columns, those with a number to the right; None reads `not defined`."""
    if not rows:
        return "nothing was measured"
    lines = [list(rows[0]), *([cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    to_right = [any(not isinstance(row[name], str) for row in rows) for name in rows[0]]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, to_right, strict=True)
        ).rstrip()
        for line in lines
    )


def cell(value: object) -> str:
    """Write a value as the table shows it."""
    if value is None:
        return "not defined"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
