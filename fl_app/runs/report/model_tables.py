"""The tables of a report on its models: heads, ways of training, confusion, and figures of generated images."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from fl_app.quality.figure import CLASSIFIED, WORDING, Figure
from fl_app.runs.exchanges import ExchangeDocument
from fl_app.runs.report.charts import interval_bar, number
from fl_app.runs.report.reading import Material
from fl_app.runs.report.tables import MOST_WITH_SHARES, NOT_DEFINED, NOTHING, Cell, Table, percent
from fl_app.runs.results import read_figure

_COLUMNS = ("n", "accuracy", "", *(WORDING[name] for name in CLASSIFIED[1:]))  # between them a picture of the accuracy


def confusion_table(exchange: ExchangeDocument | None, names: Sequence[str]) -> Table | None:
    """Return how often images of each class were taken for each class; None if the counts are not known."""
    counts = exchange.confusion if exchange else None
    if exchange is None or not counts or len(counts) != len(names):
        return None
    rows = []
    for label, row in enumerate(counts):
        total = sum(row)
        cells = [
            Cell(str(n), percent(n, total) if len(names) <= MOST_WITH_SHARES and n else "", n / total if total else 0.0)
            for n in row
        ]
        rows.append([Cell(names[label]), *cells, Cell(str(total)), Cell(percent(row[label], total) or NOT_DEFINED)])
    kind = "test images" if exchange.test_set else "held-out images, which chose the head"
    n = sum(map(sum, counts))
    caption = f"{exchange.shipped.head} ({exchange.shipped.reading}) on {n} {kind}: true classes by predicted classes"
    return Table(caption, ["true class", *names, "n", "right"], rows)


def heads_table(exchange: ExchangeDocument) -> Table:
    """Return the figures of all heads on test images, or on held-out images if there are none."""
    part = "test" if exchange.test_set else "validation"
    shown = [row for row in exchange.results if row.part == part]
    rows: list[list[Cell | Markup]] = []
    marked: set[int] = set()
    for row in shown:
        is_shipped = (row.reading, row.head) == (exchange.shipped.reading, exchange.shipped.head)
        if is_shipped:
            marked.add(len(rows))
        found = {**row.figures, **{f"{name}-interval": row.intervals.get(name) for name in CLASSIFIED}}
        rows.append([Cell(f"{row.head} ({row.reading})", "ships" if is_shipped else ""), *_figures(found, shown)])
    notes = [f"Chosen by {exchange.shipped.choose_by}: {exchange.shipped.why}."]
    notes += [f"{name}: {NOT_DEFINED}, {why}." for name, why in exchange.not_defined.items()]
    notes += [
        f"{name}: {many} sites sent no prototype, as they hold too few images."
        for name, many in exchange.withheld.items()
    ]
    kind = {"test": "test images", "validation": "held-out images"}[part]
    return Table(
        f"Heads on {kind}",
        ["head (reading)", *_COLUMNS],
        rows,
        frozenset(marked),
        notes,
    )


def comparison_table(rows: Sequence[Mapping[str, str]]) -> Table | None:
    """Return each way of training, on the same test images; None if comparison.csv is missing or empty."""
    if not rows:
        return None
    shown, marked = [], set()
    for place, row in enumerate(rows):
        found: dict[str, Any] = {name: read_figure(row.get(name)) for name in ("n", *CLASSIFIED)}
        low, high = read_figure(row.get("accuracy-low")), read_figure(row.get("accuracy-high"))
        found["accuracy-interval"] = (low, high) if isinstance(low, float) and isinstance(high, float) else None
        if "(ships)" in (row.get("approach") or ""):
            marked.add(place)
        name = Cell(row.get("approach") or "", f"{row.get('head') or ''} ({row.get('reading') or ''})")
        shown.append((name, found))
    scale = [found for _, found in shown]
    table = [[name, *_cells(found, _scale([one.get("accuracy-interval") for one in scale]))] for name, found in shown]
    notes = (
        []
        if any(isinstance(one["n"], int) for one in scale)
        else ["There are no test images, so nothing can be compared."]
    )
    return Table(
        "Ways of training",
        ["approach", *_COLUMNS],
        table,
        frozenset(marked),
        notes,
    )


def quality_tables(material: Material) -> list[Table]:
    """Return the figures of generated images: over all classes, and the Fréchet distance by class."""
    quality = material.quality
    if quality is None or not quality.figures:
        return []
    whole = [one for one in quality.figures if one.class_name is None]
    rows = [[Cell(one.wording, one.features), *_quality_cells(one)] for one in whole]
    columns = ["figure", "value", "real images (floor)", "real", "generated", "sites", "remark"]
    steps = f"{quality.sampler} with {quality.num_steps} steps, guidance {quality.guidance_scale:g}"
    drawn = f"{quality.num_images} images, {steps}"
    notes = [
        "The floor is the same figure of real training images in place of generated ones, of another number of images; "
        "of what the run's classifier says, its accuracy on real test images. A figure near it is as good as theirs."
    ]
    tables = [Table(f"Generated images: {drawn}", columns, rows, notes=notes)]
    by_class = [one for one in quality.figures if one.class_name is not None]
    if by_class:
        rows = [
            [Cell(one.class_name or "", f"{one.wording}, {one.features}"), *_quality_cells(one)] for one in by_class
        ]
        tables.append(Table("The same by class", ["class", *columns[1:]], rows))
    return tables


def _scale(intervals: Sequence[Sequence[float] | None]) -> tuple[float, float]:
    """Return the range of all intervals, a little wider."""
    known = [one for one in intervals if one]
    low, high = min((one[0] for one in known), default=0.0), max((one[1] for one in known), default=1.0)
    return max(0.0, low - 0.02), min(1.0, high + 0.02)


def _figures(found: Mapping[str, Any], rows: Sequence[Any]) -> list[Cell | Markup]:
    return _cells(found, _scale([row.intervals.get("accuracy") for row in rows]))


def _cells(found: Mapping[str, Any], scale: tuple[float, float]) -> list[Cell | Markup]:
    """Return n and the figures of a classifier; a text in place of a figure says why there is none."""
    n = found.get("n")
    cells: list[Cell | Markup] = [Cell(NOTHING if n is None else str(n))]
    for name in CLASSIFIED:
        value, interval = found.get(name), found.get(f"{name}-interval")
        is_number = isinstance(value, int | float)
        around = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
        cells.append(Cell(f"{value:.3f}", around) if is_number else Cell(str(value or NOT_DEFINED)))
        if name == "accuracy":
            cells.append(interval_bar(float(value), interval, *scale) if is_number else Cell(""))  # type: ignore[arg-type]
    return cells


def _quality_cells(one: Figure) -> list[Cell]:
    around = f"± {number(one.error)}" if one.error is not None else ""
    if one.interval is not None:
        around = f"{one.interval[0]:.3f} to {one.interval[1]:.3f}"
    around_floor = f"± {number(one.floor_error)}" if one.floor_error is not None else ""
    remark = one.reason or (f"quite another figure without {one.rests_on}" if one.rests_on else "")
    return [
        Cell(NOT_DEFINED if one.value is None else number(one.value), around),
        Cell(NOTHING if one.floor is None else number(one.floor), around_floor),
        Cell(str(one.num_real)),
        Cell(str(one.num_generated)),
        Cell(str(one.num_sites or "")),
        Cell(remark),
    ]
