"""The audit in a report: verdicts, figures of each score and of copies, and counts if the file holds them."""

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
        **_copies(audit.get("copies")),
    }


def _copies(copies: object) -> dict[str, Any]:
    """Return lines, table and charts of the search for copies; a line alone if there was none."""
    if not isinstance(copies, Mapping) or not isinstance(copies.get("spaces"), Mapping):
        return {"copy_lines": ["Copies were not searched."], "copy_table": None, "copy_charts": []}
    spaces = {str(name): one for name, one in copies["spaces"].items() if isinstance(one, Mapping)}
    lines = [f"Copies: {copies.get('verdict')}. {_sentence(copies.get('reason'))}"]
    if isinstance(copies.get("num-drawn"), int):
        lines.append(f"The sites drew {copies['num-drawn']} images to compare. The command fl-app copies shows pairs.")
    rows = [
        [
            Cell(name),
            Cell(str(one.get("verdict"))),
            _counted(one.get("generated")),
            _counted(one.get("held-out")),
            _share(one, "ratio", "ratio-interval"),
            _share(one, "nearer", "nearer-interval"),
        ]
        for name, one in spaces.items()
    ]
    columns = [
        "features",
        "verdict",
        "near copies, generated",
        "near copies, held out",
        "distance, training over held out",
        "nearer to training",
    ]
    notes = ["A model that repeats nothing has as many near copies as held-out images have, and about 1 and 0.5."]
    table = Table("Does the model repeat training images?", columns, rows, notes=notes) if rows else None
    charts = [(name, _ratios(name, one.get("histogram"))) for name, one in spaces.items()]
    drawn = [(f"Generated images by {name}", chart) for name, chart in charts if chart is not None]
    return {"copy_lines": lines, "copy_table": table, "copy_charts": drawn}


def _counted(share: object) -> Cell:
    if not isinstance(share, Mapping) or not isinstance(share.get("images"), int):
        return Cell("not defined")
    return Cell(f"{share.get('copies')} of {share['images']}", _around(share.get("interval")))


def _ratios(name: str, counts: object) -> Any:
    if not isinstance(counts, list) or not _are_numbers(counts) or sum(counts) <= 0:
        return None
    edges = [4.0 * place / len(counts) - 2.0 for place in range(len(counts) + 1)]
    series = Series("generated images", [(float(place), count / sum(counts)) for place, count in enumerate(counts)])
    label = "log2 of distance to training over held-out images"
    return histogram(f"Generated images by {name}", edges, [series], x_label=label, key=f"copies-{name}")


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
    return Cell(f"{value:.3f}", _around(interval))


def _around(interval: object) -> str:
    is_pair = isinstance(interval, list) and len(interval) == 2 and _are_numbers(interval)
    return f"{interval[0]:.3f} to {interval[1]:.3f}" if is_pair and isinstance(interval, list) else ""


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
