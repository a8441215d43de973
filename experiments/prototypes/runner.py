"""Running cells, each in a process of its own, and going on where an earlier call was stopped."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from experiments.prototypes.grid import Cell
from fl_app.runs.view import format_time
from fl_app.simulation import cells as grids
from fl_app.simulation.repeat import Ended, Job, Running, run_jobs

State = Literal["new", "half", "finished", "spoilt"]

_ROOT = Path(__file__).parents[2]
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "PYTHONPATH": str(_ROOT),
}


def state_of(cell: Cell, out: Path) -> State:
    """Tell what a cell's folder holds.

    Returns:
        `new`: no run; `half`: a run that can be resumed; `finished`: one with all results; `spoilt`: one that ended
        without all of them, and has to be done again.

    Raises:
        OptionError: it holds a run of other options.
        RunFolderError: it is damaged.
    """
    found = grids.state_of(out / cell.name, cell.config(out))
    is_spoilt = found == "finished" and not all(path.exists() for path in cell.result_files(out).values())
    return "spoilt" if is_spoilt else found


def run_cells(cells: Sequence[Cell], out: Path, jobs: int) -> list[str]:
    """Run all cells that are not finished, `jobs` at a time; what is half finished is resumed.

    Args:
        cells: in this order.
        out: holds a run folder for each cell, and `logs/<cell>.log`.
        jobs: processes at a time, one thread each.

    Returns:
        The names of the cells that failed.

    Raises:
        OptionError: a folder holds a run of other options; nothing has been started then.
        RunFolderError: a folder is damaged; likewise.
    """
    waiting = [cell for cell in cells if state_of(cell, out) != "finished"]
    print(f"{len(cells) - len(waiting)} of {len(cells)} runs are finished already.", flush=True)
    told = 0

    def show(_running: Sequence[Running], ended: Sequence[Ended]) -> None:
        nonlocal told
        for one in ended[told:]:
            told += 1
            print(f"[{told}/{len(waiting)}] {_outcome(one)}", flush=True)

    ended = run_jobs([_job(cell, out) for cell in waiting], jobs, show)
    return [one.job.name for one in ended if one.exit_status]


def _job(cell: Cell, out: Path) -> Job:
    command = [sys.executable, "-m", "experiments.prototypes.one_cell", cell.to_json(), str(out)]
    return Job(cell.name, command, out / cell.name, out / "logs" / f"{cell.name}.log", _ENVIRONMENT)


def _outcome(one: Ended) -> str:
    if one.exit_status:
        return f"{one.job.name} FAILED after {format_time(one.seconds)}: {one.reason}"
    return f"{one.job.name}: {format_time(one.seconds)}"
