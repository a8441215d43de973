"""Running cells, each in a process of its own, and going on where an earlier call was stopped."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experiments.prototypes.grid import Cell
from fl_app.errors import RunFolderError
from fl_app.runs.folder import RunFolder, read_status
from fl_app.runs.run_json import read_document

State = Literal["new", "half", "finished", "spoilt"]

ENDED_WELL = ("completed", "degraded")

_ROOT = Path(__file__).parents[2]
_POLL_SECONDS = 0.2
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
}


@dataclass(frozen=True)
class _Running:
    """A cell's process, when it was started, and its log."""

    cell: Cell
    process: subprocess.Popen[bytes]
    started: float
    log: Path


def state_of(cell: Cell, out: Path) -> State:
    """Tell what a cell's folder holds.

    Returns:
        `new`: no run; `half`: a run that can be resumed; `finished`: one with all results; `spoilt`: one that ended
        without all of them, and has to be done again.

    Raises:
        RunFolderError: it holds a run of other options, or is damaged.
    """
    folder = RunFolder(out / cell.name)
    if not folder.options_file.exists():
        return "new"
    found = read_document(folder.path).options
    wanted: dict[str, Any] = json.loads(json.dumps(cell.config(out).to_flat()))
    _check_same(folder, found, wanted)
    if read_status(folder).state not in ENDED_WELL:
        return "half"
    return "finished" if all(path.exists() for path in cell.result_files(out).values()) else "spoilt"


def _check_same(folder: RunFolder, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a run of another plan; options that are younger than the run do not count."""
    about_the_folder = ("output-dir", "run-name", "resume")
    common = [name for name in wanted if name in found and name not in about_the_folder]
    different = [f"{name} (was {found[name]!r}, is {wanted[name]!r})" for name in common if found[name] != wanted[name]]
    if different:
        raise RunFolderError(
            f"{folder.path} holds a run of other options: {', '.join(different)}. Remove it, or choose another --out."
        )


def run_cells(cells: Sequence[Cell], out: Path, jobs: int) -> list[str]:
    """Run all cells that are not finished, `jobs` at a time; what is half finished is resumed.

    Args:
        cells: in this order.
        out: holds a run folder for each cell, and `logs/<cell>.log`.
        jobs: processes at a time, one thread each.

    Returns:
        The names of the cells that failed.

    Raises:
        RunFolderError: a folder holds a run of other options; nothing has been started then.
    """
    waiting = [cell for cell in cells if state_of(cell, out) != "finished"]
    total, failed = len(waiting), list[str]()
    print(f"{len(cells) - total} of {len(cells)} runs are finished already.", flush=True)
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_start(waiting.pop(0), out))
            time.sleep(_POLL_SECONDS)
            ended = [one for one in running if one.process.poll() is not None]
            running = [one for one in running if one not in ended]
            for one in ended:
                failed += [one.cell.name] if one.process.returncode else []
                print(f"[{total - len(waiting) - len(running)}/{total}] {_outcome(one)}", flush=True)
    finally:
        for one in running:
            one.process.terminate()
        for one in running:
            one.process.wait()
    return failed


def _start(cell: Cell, out: Path) -> _Running:
    log = out / "logs" / f"{cell.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "experiments.prototypes.one_cell", cell.to_json(), str(out)]
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, cwd=_ROOT, env={**os.environ, **_ENVIRONMENT}, stdout=file, stderr=subprocess.STDOUT
        )
    return _Running(cell, process, time.monotonic(), log)


def _outcome(one: _Running) -> str:
    seconds = time.monotonic() - one.started
    if one.process.returncode == 0:
        return f"{one.cell.name}: {seconds:.0f} s"
    lines = one.log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "no output")
    return f"{one.cell.name} FAILED after {seconds:.0f} s: {last.rstrip('.')}. All of it: {one.log}"
