"""One table of a classification run: what each way of training reaches on the same images."""

import csv
import io
import json
import logging
from typing import Any

from fl_app.artifacts import RunFolder, write_text
from fl_app.config import RunConfig, baseline_of

log = logging.getLogger(__name__)

_FIGURES = ("n", "accuracy", "balanced-accuracy", "auc", "macro-f1")
_COLUMNS = ("approach", "reading", "head", "part", *_FIGURES, "accuracy-low", "accuracy-high")

Row = dict[str, Any]


def write_comparison(folder: RunFolder, config: RunConfig) -> list[Row]:
    """Write `classification/comparison.csv` from the last exchange of the task and of its baselines, and log it.

    Returns:
        A row for each approach and part of the images: first the baselines, then plain averaging, then the prototypes.
    """
    rows: list[Row] = []
    for name in sorted(config.passes(), key=lambda name: name == "classification"):
        if name.startswith("classification"):
            rows += _of_pass(folder, config, name)
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "not defined" if row[key] is None else row[key] for key in _COLUMNS} for row in rows)
    write_text(folder.task("classification") / "comparison.csv", text.getvalue())
    log.info("What each approach reaches:\n%s", table(rows))
    return rows


def table(rows: list[Row]) -> str:
    """Return the rows as aligned text."""
    lines = [_COLUMNS, *(tuple(_cell(row[key]) for key in _COLUMNS) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _of_pass(folder: RunFolder, config: RunConfig, name: str) -> list[Row]:
    options = config.options_of(name)
    path = folder.task(name) / "prototypes" / f"round-{options.num_rounds:04d}.json"
    if not path.exists():
        return []  # a baseline that failed; the run's status says why
    result = json.loads(path.read_text(encoding="utf-8"))
    baseline = baseline_of(name)
    approach = {"local": "each node alone", "centralised": "centralised"}.get(baseline, options.strategy)
    own_layer = ("local" if baseline == "local" else "global", "linear")
    rows = [
        {"approach": approach, **_flat(row)}
        for row in result["results"]
        if (row["reading"], row["head"]) == own_layer and row["figures"]["n"] > 0
    ]
    if baseline:
        return rows
    shipped = (result["shipped"]["reading"], result["shipped"]["head"])
    if shipped == own_layer:
        rows = [row | {"approach": f"{approach} (ships)"} for row in rows]
    others = [row for row in result["results"] if row["reading"] != "global" and row["figures"]["n"] > 0]
    ours = f"{options.strategy} + prototypes"
    for row in sorted(others, key=lambda row: (row["reading"], row["head"]) == shipped):
        is_shipped = (row["reading"], row["head"]) == shipped
        rows.append({"approach": f"{ours} (ships)" if is_shipped else ours, **_flat(row)})
    return rows


def _flat(row: dict[str, Any]) -> Row:
    named = {key: row[key] for key in ("reading", "head", "part")} | {key: row["figures"][key] for key in _FIGURES}
    low, high = (row["intervals"] or {}).get("accuracy") or (None, None)
    return named | {"accuracy-low": low, "accuracy-high": high}


def _cell(value: object) -> str:
    if value is None:
        return "not defined"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
