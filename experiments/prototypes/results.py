"""What finished runs reached, as one long table: read from run folders, written as CSV."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from experiments.prototypes.grid import Cell
from experiments.prototypes.runner import state_of
from fl_app.runs.documents import ENDED_WELL
from fl_app.runs.folder import RunFolder, read_status


@dataclass(frozen=True)
class Row:
    """What one way to classify reached on the public test set, had the run stopped after that round.

    Attributes:
        part: of the experiment.
        source: the data set.
        split: `iid` or `dirichlet-<alpha>`.
        strategy: of the run.
        seed: of the run.
        trained: `federated`, or the name of a baseline.
        round: the number of rounds.
        reading: whose features; `global` and `local` have the networks' own layer, `linear`, too.
        head: its name.
        ships: whether this head was chosen by the nodes' held-out images.
        num_images: test images.
        accuracy: a share, None where it is not defined, as with the next three.
        balanced_accuracy: mean of the classes' recalls.
        auc: mean over classes.
        macro_f1: mean over classes.
        train_down: bytes from the server to all nodes in the rounds so far.
        train_up: bytes from all nodes; with the readings `piggyback` and `local` their moments are among them.
        exchange_down: bytes to all nodes of the exchange of prototypes after that round, which `linear` can do without.
        exchange_up: the same, from all nodes.
    """

    part: str
    source: str
    split: str
    strategy: str
    seed: int
    trained: str
    round: int
    reading: str
    head: str
    ships: bool
    num_images: int
    accuracy: float | None
    balanced_accuracy: float | None
    auc: float | None
    macro_f1: float | None
    train_down: int
    train_up: int
    exchange_down: int
    exchange_up: int


@dataclass(frozen=True)
class Collected:
    """The rows of all finished runs, and what is to be known about the others.

    Attributes:
        rows: in the order of the cells.
        missing: names of cells that are not finished.
        degraded: name of a run -> what was not always there.
    """

    rows: list[Row]
    missing: list[str]
    degraded: dict[str, str]


def collect(cells: Iterable[Cell], out: Path) -> Collected:
    """Read every finished run.

    Raises:
        OptionError: a folder holds a run of other options.
    """
    found = Collected([], [], {})
    for cell in cells:
        if state_of(cell, out) != "finished":
            found.missing.append(cell.name)
            continue
        found.rows.extend(read_run(cell, out))
        status = read_status(RunFolder(out / cell.name))
        if status.state != ENDED_WELL[0]:
            found.degraded[cell.name] = str(status.reason)
    return found


def read_run(cell: Cell, out: Path) -> list[Row]:
    """Read the results of a finished run on the test set."""
    lines = RunFolder(out / cell.name).read_metrics()
    rows = []
    for (task, number), path in cell.result_files(out).items():
        result = json.loads(path.read_text(encoding="utf-8"))
        done = [line for line in lines if line.task == task and line.round <= number]
        trained = {"down": sum(line.bytes_down for line in done), "up": sum(line.bytes_up for line in done)}
        rows += [
            _row(cell, task, number, found, result, trained)
            for found in result["results"]
            if found["part"] == "test" and found["figures"]["n"] > 0
        ]
    return rows


def _row(
    cell: Cell, task: str, number: int, found: dict[str, Any], result: dict[str, Any], trained: dict[str, int]
) -> Row:
    figures, shipped, sent = found["figures"], result["shipped"], result["bytes"]
    return Row(
        part=cell.part,
        source=cell.source,
        split=cell.split,
        strategy=cell.strategy,
        seed=cell.seed,
        trained=task.partition("-")[2] or "federated",
        round=number,
        reading=found["reading"],
        head=found["head"],
        ships=(found["reading"], found["head"]) == (shipped["reading"], shipped["head"]),
        num_images=int(figures["n"]),
        accuracy=figures["accuracy"],
        balanced_accuracy=figures["balanced-accuracy"],
        auc=figures["auc"],
        macro_f1=figures["macro-f1"],
        train_down=trained["down"],
        train_up=trained["up"],
        exchange_down=sent["moments-down"] + sent["heads-down"],
        exchange_up=sent["moments-up"] + sent["heads-up"],
    )


def to_csv(rows: Sequence[Row]) -> str:
    """Write rows as CSV; shares have five decimals, what is not defined says so."""
    text = io.StringIO()
    names = [field.name for field in fields(Row)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([name.replace("_", "-") for name in names])
    writer.writerows([[_cell(value) for value in asdict(row).values()] for row in rows])
    return text.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return "not defined"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.5f}" if isinstance(value, float) else str(value)
