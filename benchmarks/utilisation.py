"""How much of the workers' time a run spent in training.

The sites' training seconds, over the workers times the wall time from the start of the first round to the end of the
last one. That wall time counts what lies between rounds as well (galleries, checkpoints), but neither the start of
the processes nor the final evaluation. A resumed run counts from its first line to its last, the pause included.
"""

import argparse
from pathlib import Path

from benchmarks.output import Row, parser, run
from fl_app.errors import RunFolderError
from fl_app.runs.documents import RoundLine
from fl_app.runs.folder import RunFolder
from fl_app.runs.run_json import read_document


def measure(arguments: argparse.Namespace) -> list[Row]:
    """Measure every run."""
    return [measure_run(folder, arguments.parallel) for folder in arguments.runs]


def measure_run(run_folder: Path, num_workers: int) -> Row:
    """Add up a run's lines of metrics.jsonl.

    Raises:
        RunFolderError: it is no run folder, or no round has ended yet.
    """
    folder = RunFolder(run_folder)
    read_document(run_folder)
    lines = folder.read_metrics()
    if not lines:
        raise RunFolderError(f"No round of {run_folder} has ended yet.")
    training = sum(node.seconds for line in lines for node in line.nodes.values())
    in_rounds = sum(line.seconds or 0.0 for line in lines)
    wall = _wall_seconds(lines)
    return {
        "run": run_folder.name,
        "rounds": len(lines),
        "workers": num_workers,
        "training s": training,
        "in rounds s": in_rounds,
        "wall s": wall,
        "utilisation": training / (num_workers * wall) if wall else None,
        "within rounds": training / (num_workers * in_rounds) if in_rounds else None,
    }


def _wall_seconds(lines: list[RoundLine]) -> float | None:
    """Return the time from the first start to the last end; None of runs that wrote no times down."""
    times = [(line.started, line.ended) for line in lines]
    starts = [started for started, _ in times if started is not None]
    ends = [ended for _, ended in times if ended is not None]
    return max(ends) - min(starts) if len(starts) == len(ends) == len(lines) else None


def main() -> None:
    """Read the arguments and measure."""
    arguments = parser(__doc__)
    arguments.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder")
    arguments.add_argument("--parallel", type=int, default=2, help="sites trained at once (default: 2)")
    run(measure, arguments.parse_args())


if __name__ == "__main__":
    main()
