"""The experiment's two commands: run its cells, and report what came out."""

import argparse
import fnmatch
import signal
import sys
from pathlib import Path
from types import FrameType

from experiments.prototypes.grid import Cell, all_cells
from fl_app.errors import FlAppError

_RESULTS = Path(__file__).parents[2] / "docs" / "results"


def main() -> None:
    """Read the arguments and do what they say; a known error ends the program with its text alone."""
    arguments = _parser().parse_args()
    try:
        sys.exit(arguments.do(arguments))
    except FlAppError as error:
        sys.exit(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.prototypes", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run all cells that are not finished; what is half finished is resumed")
    run.add_argument("--jobs", type=int, default=1, help="processes at a time, one thread each (default: 1)")
    run.add_argument("--only", default="*", metavar="GLOB", help="cells of such a name, as `--list` shows them")
    run.add_argument("--list", action="store_true", help="show the cells and what is there of them; run nothing")
    run.set_defaults(do=_run)
    report = commands.add_parser("report", help="write tables and figures from the finished cells")
    report.add_argument("--results", type=Path, default=_RESULTS, help="folder to write to (default: docs/results)")
    report.set_defaults(do=_report)
    for command in (run, report):
        command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run folders")
    return parser


def chosen(pattern: str) -> list[Cell]:
    """Return the cells whose name matches."""
    return [cell for cell in all_cells() if fnmatch.fnmatchcase(cell.name, pattern)]


def _run(arguments: argparse.Namespace) -> int:
    from experiments.prototypes.runner import run_cells, state_of

    cells, out = chosen(arguments.only), arguments.out.expanduser().resolve()
    if not cells:
        print(f"No cell has a name like {arguments.only!r}: `run --list` shows them.", file=sys.stderr)
        return 2
    if arguments.list:
        for cell in cells:
            print(f"{state_of(cell, out):8}  {cell.name}")
        return 0
    signal.signal(signal.SIGTERM, _stop)  # so that the cells' processes are ended, too
    failed = run_cells(cells, out, max(1, arguments.jobs))
    return 1 if failed else 0


def _report(arguments: argparse.Namespace) -> int:
    from experiments.prototypes.report import write_report

    for path in write_report(all_cells(), arguments.out.expanduser().resolve(), arguments.results):
        print(path)
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
