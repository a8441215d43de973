"""One cell in this process: `python -m experiments.prototypes.one_cell <cell as JSON> <folder of the runs>`."""

import shutil
import sys
from pathlib import Path

import torch

from benchmarks.local_grid import run_federation
from experiments.prototypes.grid import Cell
from experiments.prototypes.runner import state_of


def run_cell(cell: Cell, out: Path) -> None:
    """Run a cell, or resume it; a finished one is left as it is.

    Raises:
        FlAppError: the run could not start, or did not end well.
    """
    state = state_of(cell, out)
    if state == "finished":
        return
    if state == "spoilt":
        shutil.rmtree(out / cell.name)
    torch.set_num_threads(1)
    run_federation(cell.config(out, resume=state == "half"), cell.num_nodes)


if __name__ == "__main__":
    run_cell(Cell.from_json(sys.argv[1]), Path(sys.argv[2]))
