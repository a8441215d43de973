"""Run folders without a run: what the analysis reads, with figures that a test chooses."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.prototypes.grid import Cell, all_cells
from experiments.prototypes.results import Row

Approach = tuple[str, str]
Shares = Mapping[Approach, float | None]

TRAIN = {"down": 1000, "up": 900}  # bytes a round
EXCHANGE = {"moments-down": 100, "moments-up": 20, "heads-down": 110, "heads-up": 3}
HEADS: dict[Approach, float | None] = {("global", "linear"): 0.70, ("consistent", "lda"): 0.75}


def cell_named(name: str) -> Cell:
    """Return the cell of that name."""
    return next(cell for cell in all_cells() if cell.name == name)


def write_run(
    cell: Cell,
    out: Path,
    shares: Mapping[str, Shares] | None = None,
    shipped: Approach = ("consistent", "lda"),
    state: str = "completed",
) -> None:
    """Write a finished run: the same shares as accuracy and AUC after every round, by pass."""
    folder = out / cell.name
    folder.mkdir(parents=True)
    options = json.loads(json.dumps(cell.config(out).to_flat()))
    (folder / "run.json").write_text(json.dumps({"run-name": cell.name, "options": options}))
    (folder / "status.json").write_text(json.dumps({"state": state, "reason": "site-1 2 times late"}))
    tasks = {task for task, _ in cell.result_files(out)}
    lines = [
        {"task": task, "round": number, "outcome": "ok", "bytes-down": TRAIN["down"], "bytes-up": TRAIN["up"]}
        for task in sorted(tasks)
        for number in range(1, cell.rounds[-1] + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for (task, _), path in cell.result_files(out).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_result((shares or {}).get(task, HEADS), shipped)))


def _result(shares: Shares, shipped: Approach) -> dict[str, Any]:
    rows = [
        {"reading": reading, "head": head, "part": part, "figures": _figures(share), "intervals": None}
        for part in ("validation", "test")
        for (reading, head), share in shares.items()
    ]
    return {"bytes": EXCHANGE, "results": rows, "shipped": {"reading": shipped[0], "head": shipped[1]}}


def _figures(share: float | None) -> dict[str, Any]:
    return {"n": 10, "accuracy": share, "balanced-accuracy": share, "auc": share, "macro-f1": share}


def row(cell: Cell, number: int, reading: str, head: str, share: float | None, **changes: Any) -> Row:
    """Return a row as the analysis holds it."""
    values: dict[str, Any] = {
        "part": cell.part,
        "source": cell.source,
        "split": cell.split,
        "strategy": cell.strategy,
        "seed": cell.seed,
        "trained": "federated",
        "round": number,
        "reading": reading,
        "head": head,
        "ships": False,
        "num_images": 10,
        "accuracy": share,
        "balanced_accuracy": share,
        "auc": share,
        "macro_f1": share,
        "train_down": number * TRAIN["down"],
        "train_up": number * TRAIN["up"],
        "exchange_down": 210,
        "exchange_up": 23,
    }
    return Row(**{**values, **changes})
