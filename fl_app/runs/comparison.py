"""The table of a classification run: the figures of each way of training on test images, which chose nothing."""

import csv
import io
import logging
from collections.abc import Sequence

from fl_app.files import write_text
from fl_app.options.run import PassPlan, RunConfig
from fl_app.runs.exchanges import ExchangeDocument, read_exchange
from fl_app.runs.folder import RunFolder

log = logging.getLogger(__name__)

_FIGURES = ("n", "accuracy", "accuracy-low", "accuracy-high", "balanced-accuracy", "auc", "macro-f1")
_HOME = ("home-n", "home-accuracy")
_COLUMNS = ("approach", "reading", "head", "images", *_FIGURES, *_HOME)

NO_TEST_SET = "no test set"
NOT_MEASURED = "not measured"
_NOT_DEFINED = "not defined"
_ALONE = "each node alone"

Row = dict[str, str | float]  # a column that has no figure holds a text that says why, or nothing


def write_comparison(folder: RunFolder, config: RunConfig) -> None:
    """Write `classification/comparison.csv` from the last exchange of the task and of its baselines, and log it.

    It has a row for each approach and head: first the baselines, then plain averaging, then the prototypes. The figures
    are of test images only. Held-out images choose heads and temperatures, so the columns `home-…` hold the accuracy on
    them only for a network's own layer, and only if they did not choose it. If each node has its own test part, the
    columns `home-…` are of that part.
    """
    rows: list[Row] = []
    plans = [plan for plan in config.passes() if plan.task == "classification"]
    for plan in sorted(plans, key=lambda plan: not plan.baseline):
        rows += _of_pass(folder, config, plan)
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder.task("classification") / "comparison.csv", text.getvalue())
    log.info("What each approach reaches on test images:\n%s\n%s", table(rows), "\n".join(notes(rows)))


def notes(rows: Sequence[Row]) -> list[str]:
    """Return notes under the table: on which images its columns were measured, and why figures are missing."""
    own = {"test": "test images", "validation": "held-out images, for layers that these have not chosen"}
    lines = [f"home: on the nodes' own {own[str(part)]}." for part in dict.fromkeys(row["home"] for row in rows)]
    if any(row["approach"] == _ALONE for row in rows):
        lines.append(f"{_ALONE}: its network's own layer, since nothing is exchanged.")
    if any(NOT_MEASURED in row.values() for row in rows):
        lines.append(f"{NOT_MEASURED}: a node's own network does not leave it.")
    return lines


def table(rows: Sequence[Row]) -> str:
    """Return the rows as aligned text."""
    lines = [list(_COLUMNS)]
    for row in rows:
        cells = (f"{row[key]:.3f}" if isinstance(row[key], float) else str(row[key]) for key in _COLUMNS)
        lines.append([cell or "-" for cell in cells])
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _of_pass(folder: RunFolder, config: RunConfig, plan: PassPlan) -> list[Row]:
    """Return the rows of a pass: its own layer and its chosen head; for the task itself all other heads, too."""
    path = folder.task(plan.name) / "prototypes" / f"round-{plan.options.num_rounds:04d}.json"
    if not path.exists():
        return []  # a baseline that failed; the run's status says why
    result = read_exchange(path)
    approach = {"local": _ALONE, "centralised": "centralised"}.get(plan.baseline, plan.options.strategy)
    own_layer = ("local" if plan.is_alone else "global", "linear")
    chosen = (result.shipped.reading, result.shipped.head)
    mark = "chosen" if plan.baseline else "ships"
    measured = dict.fromkeys((row.reading, row.head) for row in result.results)
    pairs = [own_layer]
    if plan.baseline:
        pairs += [chosen] if chosen != own_layer else []
    else:
        pairs += sorted((pair for pair in measured if pair[0] != "global"), key=lambda pair: pair == chosen)
    rows = []
    for pair in pairs:
        named = approach if pair == own_layer else f"{approach} + prototypes"
        if pair == chosen and not plan.is_alone:  # a node alone has one layer, and nothing to choose from
            named = f"{named} ({mark})"
        by_images = pair == chosen and not plan.is_alone and config.classification.head == "auto"
        rows.append({"approach": named, **_row(result, pair, by_images)})
    return rows


def _row(result: ExchangeDocument, pair: tuple[str, str], is_chosen: bool) -> Row:
    """Return the figures of one head; a text stands for each missing figure.

    Args:
        result: of the exchange.
        pair: reading and head.
        is_chosen: held-out images chose it.
    """
    reading, head = pair
    parts = {row.part: row for row in result.results if (row.reading, row.head) == pair}
    test_set = result.test_set
    row: Row = {"reading": reading, "head": head, "images": "test" if test_set else NO_TEST_SET}
    if test_set is None:
        row |= dict.fromkeys(_FIGURES, "")
    elif test_set == "own parts" and reading == "local":  # each network has seen only its own node's test images
        row |= dict.fromkeys(_FIGURES, NOT_MEASURED)
    else:
        low, high = parts["test"].intervals.get("accuracy") or (None, None)
        found = {**parts["test"].figures, "accuracy-low": low, "accuracy-high": high}
        row |= {key: _NOT_DEFINED if found[key] is None else found[key] for key in _FIGURES}
    home = row["home"] = "test" if test_set == "own parts" else "validation"
    if home == "validation" and (head != "linear" or is_chosen):  # these images have chosen among the heads
        return row | dict.fromkeys(_HOME, "")
    figures = parts[home].figures
    return row | {"home-n": figures["n"], "home-accuracy": "" if figures["accuracy"] is None else figures["accuracy"]}
