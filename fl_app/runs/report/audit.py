"""The audit in a report: verdicts, figures of each score and of copies, and counts if the file holds them."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from fl_app.metrics.audited import Copies, CopyFigures, Interval, ScoreFigures, Share
from fl_app.runs.audit import Audit
from fl_app.runs.report.charts import Series, histogram
from fl_app.runs.report.tables import NOT_DEFINED, Cell, Table

_NAMES = {"train": "training", "validation": "held out"}


def audit_view(audit: Audit | None) -> dict[str, Any] | None:
    """Return what a report shows of an audit; None if there is none."""
    if audit is None:
        return None
    found = audit.membership
    return {
        "lines": [
            f"Membership inference: {found.verdict}. {_sentence(found.reason)}",
            f"Scored: {found.num_train} training images, {found.num_held_out} held-out images, {found.num_test} test "
            "images.",
            f"Limit of the AUC: {audit.max_auc:g}; 0.5 is chance.",
        ],
        "table": _scores(found.scores),
        "charts": _charts(audit.histograms),
        **_copies(audit.copies),
    }


def _copies(copies: Copies | None) -> dict[str, Any]:
    """Return lines, table and charts of the search for copies; a line alone if there was none."""
    if copies is None:
        return {"copy_lines": ["Copies were not searched."], "copy_table": None, "copy_charts": []}
    lines = [
        f"Copies: {copies.verdict}. {_sentence(copies.reason)}",
        f"The sites drew {copies.num_drawn} images. At a site, the command fl-app copies shows the pairs of this run.",
    ]
    rows = [
        [
            Cell(name),
            Cell(one.verdict),
            _counted(one.generated),
            _counted(one.held_out),
            _share(one.ratio, one.ratio_interval),
            _share(one.nearer, one.nearer_interval),
        ]
        for name, one in copies.spaces.items()
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
    charts = [(f"Generated images by {name}", _ratios(name, one)) for name, one in copies.spaces.items()]
    return {"copy_lines": lines, "copy_table": table, "copy_charts": [one for one in charts if one[1] is not None]}


def _counted(share: Share) -> Cell:
    return Cell(f"{share.copies} of {share.images}", _around(share.interval))


def _ratios(name: str, found: CopyFigures) -> Markup | None:
    bins = len(found.histogram)
    edges = [4.0 * place / bins - 2.0 for place in range(bins + 1)] if bins else []
    label = "log2 of distance to training over held-out images"
    series = _shares("generated images", found.histogram)
    return histogram(f"Generated images by {name}", edges, series, x_label=label, key=f"copies-{name}")


def _shares(name: str, counts: Sequence[float]) -> list[Series]:
    """Return the share of each bin; nothing if all are empty."""
    total = sum(counts)
    return [Series(name, [(float(place), count / total) for place, count in enumerate(counts)])] if total > 0 else []


def _sentence(text: str) -> str:
    return f"{text.rstrip('.')}." if text else ""


def _scores(scores: Mapping[str, ScoreFigures]) -> Table | None:
    rows = [
        [
            Cell(name),
            _share(one.auc, one.interval),
            _share(one.control_auc, one.control_interval),
            _share(one.tpr, one.tpr_interval),
        ]
        for name, one in scores.items()
    ]
    columns = ["score", "AUC", "AUC of held-out against test images", "found at 1 % false alarms"]
    return (
        Table("Can training images be told from held-out ones?", columns, rows, notes=["0.5 is chance."])
        if rows
        else None
    )


def _share(value: float | None, interval: Interval | None) -> Cell:
    return Cell(NOT_DEFINED) if value is None else Cell(f"{value:.3f}", _around(interval))


def _around(interval: Interval | None) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""


def _charts(given: Mapping[str, Sequence[float]]) -> list[tuple[str, Markup]]:
    """Return a histogram for each score, of `edges` and counts by `<score>/<part>`."""
    edges, charts = given.get("edges", ()), []
    by_score: dict[str, list[Series]] = {}
    for key, counts in given.items():
        score, slash, part = key.partition("/")
        if slash and len(counts) == len(edges) - 1:
            by_score.setdefault(score, []).extend(_shares(_NAMES.get(part, part), counts))
    for name, series in sorted(by_score.items()):
        chart = histogram(f"Images by {name}", edges, series, x_label=f"{name}, log10", key=f"audit-{name}")
        if chart is not None:
            charts.append((f"Images by {name}", chart))
    return charts
