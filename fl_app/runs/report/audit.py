"""The audit in a report: verdict, figures of each score, and counts by score if the file holds them."""

from collections.abc import Mapping
from typing import Any

from fl_app.runs.report.charts import Series, histogram
from fl_app.runs.report.tables import Cell, Table


def audit_view(audit: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what a report shows of audit.json; None if there is nothing.

    The file is read as plain JSON: what is missing or of another form is left out.
    """
    found = audit.get("membership") if audit else None
    if audit is None or not isinstance(found, Mapping):
        return None
    numbers = ", ".join(f"{found[key]} {name}" for key, name in _PARTS.items() if isinstance(found.get(key), int))
    lines = [
        f"Membership inference: {found.get('verdict')}. {_sentence(found.get('reason'))}",
        f"Scored: {numbers}." if numbers else "",
    ]
    if isinstance(audit.get("max-auc"), float):
        lines.append(f"Limit of the AUC: {audit['max-auc']:g}; 0.5 is chance.")
    return {
        "lines": [one for one in lines if one],
        "table": _scores(found.get("scores")),
        "charts": _charts(audit.get("histograms")),
    }


def _sentence(text: object) -> str:
    return f"{str(text).rstrip('.')}." if text else ""


_PARTS = {"num-train": "training images", "num-held-out": "held-out images", "num-test": "test images"}


def _scores(scores: object) -> Table | None:
    if not isinstance(scores, Mapping) or not scores:
        return None
    rows = [
        [Cell(str(name)), *(_share(one, key, around) for key, around in _COLUMNS)]
        for name, one in scores.items()
        if isinstance(one, Mapping)
    ]
    columns = ["score", "AUC", "AUC of held-out against test images", "found at 1 % false alarms"]
    return Table("Can training images be told from held-out ones?", columns, rows, notes=["0.5 is chance."])


_NAMES = {"train": "training", "validation": "held out"}
_COLUMNS = (("auc", "interval"), ("control-auc", "control-interval"), ("tpr", "tpr-interval"))


def _share(found: Mapping[str, Any], key: str, around: str) -> Cell:
    value, interval = found.get(key), found.get(around)
    if not isinstance(value, int | float):
        return Cell("not defined")
    is_pair = (
        isinstance(interval, list) and len(interval) == 2 and all(isinstance(one, int | float) for one in interval)
    )
    return Cell(f"{value:.3f}", f"{interval[0]:.3f} to {interval[1]:.3f}" if is_pair and interval else "")


def _are_numbers(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(one, int | float) and one == one for one in values)


def _charts(given: object) -> list[tuple[str, Any]]:
    """Return a histogram for each score, of `edges` and counts by `<score>/<part>`."""
    if not isinstance(given, Mapping) or not all(_are_numbers(one) for one in given.values()):
        return []
    edges = given.get("edges", [])
    charts = []
    names = sorted({str(key).partition("/")[0] for key in given if "/" in str(key)})
    for name in names:
        parts = {str(key).partition("/")[2]: value for key, value in given.items() if str(key).startswith(f"{name}/")}
        series = [
            Series(_NAMES.get(part, part), [(float(place), count / sum(counts)) for place, count in enumerate(counts)])
            for part, counts in parts.items()
            if sum(counts) > 0 and len(counts) == len(edges) - 1
        ]
        chart = histogram(f"Images by {name}", edges, series, x_label=f"{name}, log10", key=f"audit-{name}")
        if chart is not None:
            charts.append((f"Images by {name}", chart))
    return charts
