"""The experiment's two commands: run its cells, and report what came out."""

import argparse
import fnmatch
import sys
import time
from pathlib import Path

from experiments.heads.plan import all_cells
from fl_app.errors import FlAppError

_RESULTS = Path(__file__).parents[2] / "docs" / "results"


def main() -> None:
    """Read the arguments and do what they say; a known error ends the program with its text alone."""
    parser = argparse.ArgumentParser(prog="python -m experiments.heads", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run all cells that are not finished, one after the other")
    run.add_argument("--only", default="*", metavar="GLOB", help="cells of such a name, as `breastmnist-*`")
    run.set_defaults(do=_run)
    report = commands.add_parser("report", help="write tables from the finished cells")
    report.add_argument("--results", type=Path, default=_RESULTS, help="folder to write to (default: docs/results)")
    report.set_defaults(do=_report)
    for command in (run, report):
        command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run folders")
    arguments = parser.parse_args()
    try:
        arguments.do(arguments)
    except FlAppError as error:
        sys.exit(str(error))


def _run(arguments: argparse.Namespace) -> None:
    import torch

    from experiments.heads.embedded import run_cell

    torch.set_num_threads(1)
    out = arguments.out.expanduser().resolve()
    for cell in all_cells():
        if fnmatch.fnmatchcase(cell.name, arguments.only):
            started = time.monotonic()
            run_cell(cell, out)
            print(f"{cell.name}: {time.monotonic() - started:.0f} s", flush=True)


def _report(arguments: argparse.Namespace) -> None:
    from experiments.heads.report import write_report

    for path in write_report(arguments.out.expanduser().resolve(), arguments.results):
        print(path)


if __name__ == "__main__":
    main()
