"""Builds the report of a run and writes it into its folder."""

import functools
import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from fl_app.errors import FlAppError
from fl_app.files import write_text
from fl_app.options.app_files import own_app, read_defaults
from fl_app.options.sections import OptionValue
from fl_app.quality.figure import FRECHET
from fl_app.runs.audit import QUARANTINED, TASK, quarantine_of
from fl_app.runs.overview import REPORT
from fl_app.runs.report import cost_tables, curves, model_tables, tables
from fl_app.runs.report.audit import audit_view
from fl_app.runs.report.charts import number
from fl_app.runs.report.outcomes import outcomes_chart
from fl_app.runs.report.reading import Gallery, Material, Row, read_material
from fl_app.runs.report.style import STYLE
from fl_app.runs.report.template import TEMPLATE
from fl_app.runs.report.verdict import cards, checks, contributions, headline, warn_of_images
from fl_app.runs.view import describe_nodes, describe_phase, format_time

log = logging.getLogger(__name__)

_MARK = " (used)"


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report of a run, and return its path.

    Args:
        folder: of the run, in any state.
        out: the file; None: report.html in the folder.

    Raises:
        RunFolderError: it cannot be written.
    """
    path = out or folder / REPORT
    write_text(path, render(read_material(folder, time.time()), time.time()))
    return path


def render(material: Material, now: float) -> str:
    """Return the report as one HTML file; `now`: unix seconds."""
    exchange = material.last_exchange("classification")
    is_aside = quarantine_of(material.folder / TASK / QUARANTINED) is not None
    confusion = model_tables.confusion_table(exchange, material.class_names)
    view: dict[str, Any] = {
        "name": material.folder.name,
        "subtitle": _subtitle(material),
        "verdict": headline(material),
        "progress": _progress(material),
        "problems": material.problems,
        "contributions": contributions(material),
        "cards": cards(material),
        "checks": checks(material),
        "outcomes": outcomes_chart(material.rounds, "who"),
        "images_warning": warn_of_images(material),
        "final": [] if is_aside else _final(material),
        "galleries": [] if is_aside else [_shown(one) for one in material.galleries],
        "curves": curves.curves(material),
        "split": tables.split_table(material),
        "sites": tables.sites_table(material),
        "heads": model_tables.heads_table(exchange) if exchange else None,
        "comparison": model_tables.comparison_table(material.comparison),
        "confusion": confusion,
        "confusion_picture": None if confusion else material.pictures.get("classification/confusion.png"),
        "quality": model_tables.quality_tables(material),
        "audit": audit_view(material.overview.audit),
        "costs": cost_tables.costs_table(material),
        "cost_charts": curves.cost_charts(material.rounds),
        "sent": cost_tables.sent_table(material),
        "options": _options(material),
        "versions": list(material.document.versions.items()) if material.document else [],
        "written": time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now)),
    }
    return _template().render(view, sections=_sections(view), style=Markup(STYLE))


@functools.cache
def _template() -> Template:
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(TEMPLATE)


def _sections(view: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return anchors and titles of the sections that there are."""
    known = (
        ("sites", "Contributions", ("outcomes",)),
        ("images", "Images", ("final", "galleries", "images_warning")),
        ("curves", "Curves", ("curves",)),
        ("data", "Data and sites", ("split", "sites")),
        ("classifier", "Classifier", ("heads", "comparison", "confusion", "confusion_picture")),
        ("quality", "Quality", ("quality",)),
        ("audit", "Audit", ("audit",)),
        ("costs", "Time and bytes", ("costs",)),
        ("sent", "What left each site", ("sent",)),
        ("configuration", "Configuration", ("name",)),
    )
    return [(anchor, title) for anchor, title, keys in known if any(view[key] for key in keys)]


def _subtitle(material: Material) -> str:
    overview = material.overview
    source = material.document.options.get("data.source") if material.document else None
    parts = [
        f"started {overview.started.replace('T', ' ')}" if overview.started else "",
        f"tasks: {', '.join(overview.tasks)}" if overview.tasks else "",
        f"data: {source}" if source else "",
        f"{len(overview.images)} sites" if overview.images else "",
        f"{len(material.class_names)} classes" if material.class_names else "",
    ]
    return " · ".join(one for one in parts if one)


def _progress(material: Material) -> str | None:
    """Return what a run that goes on is doing; None if it has ended."""
    progress = material.overview.progress
    if not material.overview.is_going_on:
        return None
    text = describe_phase(progress)
    if progress.num_rounds:
        text += f", round {progress.round} of {progress.num_rounds} of {progress.task}"
    if progress.replied or progress.failed or progress.awaited:
        text += f": {describe_nodes(progress)}"
    return text + ("" if progress.seconds_left is None else f"; about {format_time(progress.seconds_left)} left")


def _final(material: Material) -> list[dict[str, Any]]:
    """Return the images of each class of the final model, of the weights that are used, with their numbers."""
    final = next((one for one in material.galleries if one.name == "final" and one.rows), None)
    if final is None:
        return []
    used = next((row.weights for row in final.rows if row.weights.endswith(_MARK)), final.rows[0].weights)
    support, distances = material.support("train"), _distances(material)
    shown = []
    for row in final.rows:
        if row.weights == used:
            text = f"{support[row.label]} training images"
            text += f". {distances[row.name]}" if row.name in distances else ""
            shown.append({"row": _plain(row), "text": text})
    return shown


def _distances(material: Material) -> dict[str, str]:
    """Return the Fréchet distance of each class, with its floor."""
    found: dict[str, str] = {}
    for one in material.quality.figures if material.quality else ():
        if one.name == FRECHET and one.class_name and one.value is not None and one.class_name not in found:
            floor = "" if one.floor is None else f", real images {number(one.floor)}"
            found[one.class_name] = f"Fréchet distance ({one.features}) {number(one.value)}{floor}"
    return found


def _shown(gallery: Gallery) -> dict[str, Any]:
    blocks = [
        (_weights_text(weights), list(map(_plain, rows)))
        for weights, rows in groupby(gallery.rows, lambda row: row.weights)
    ]
    return {"title": gallery.title, "blocks": blocks, "uri": gallery.uri}


def _plain(row: Row) -> Row:
    return Row(row.weights.removesuffix(_MARK), row.label, row.name, row.uri, row.width, row.height)


def _weights_text(weights: str) -> str:
    """Return what a set of weights is, for people."""
    name = weights.removesuffix(_MARK)
    text = {
        "raw": "weights of the round",
        "ema": "moving average (EMA) over rounds",
        "node-ema": "sites' moving averages",
    }
    return text.get(name, name) + (", the better ones" if weights.endswith(_MARK) else "")


@functools.cache
def _defaults() -> dict[str, OptionValue]:
    with suppress(FlAppError, OSError):
        return read_defaults(own_app())
    return {}


def _options(material: Material) -> dict[str, Any] | None:
    """Return all options, and those that differ from their defaults."""
    if material.document is None:
        return None
    usual = _defaults()
    options = [(key, value) for key, value in sorted(material.document.options.items())]
    changed = [
        (key, json.dumps(value, ensure_ascii=False), f"default {json.dumps(usual[key], ensure_ascii=False)}")
        for key, value in options
        if key in usual and usual[key] != value
    ]
    return {"all": [(key, json.dumps(value, ensure_ascii=False)) for key, value in options], "changed": changed}
