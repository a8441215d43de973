"""The comparison as pictures: SVG for papers, PNG at 200 dpi."""

import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fl_app.files import replacing
from fl_app.grids.collecting import Collected
from fl_app.grids.comparing import Line
from fl_app.grids.estimates import estimate
from fl_app.grids.reading import GENERATED, SHIPS, RunFigures
from fl_app.runs.documents import RoundLine

_DPI = 200
_WIDTH = 7.0  # inches
# Okabe and Ito, told apart with any colour vision; yellow, which is too pale for lines, left out.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
_LINES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "v", "D", "P", "X")
_ROW = 0.34  # inches for each setting of a picture with a row for each
_MANY = 5  # series whose bands lie upon one another
_LONGEST = 28  # characters of a label before it is broken

Curves = dict[str, dict[int, list[float]]]  # series -> x -> values of the seeds


def draw_all(collected: Collected, lines: Sequence[Line], folder: Path) -> list[Path]:
    """Draw whatever the runs hold into a folder, each as SVG and PNG, and return the paths of the PNGs.

    Raises:
        RunFolderError: a picture cannot be written.
    """
    paths = []
    for name, figure in _figures(collected, lines):
        for kind, options in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": _DPI})):
            path = folder / f"{name}.{kind}"
            with replacing(path) as temporary, mpl.rc_context({"svg.hashsalt": name}):
                figure.savefig(temporary, format=kind, **options)
        paths.append(path)
    return paths


def _figures(collected: Collected, lines: Sequence[Line]) -> Iterator[tuple[str, Figure]]:
    tasks = dict.fromkeys(line.task for run in collected.runs for line in run.rounds)
    mains = [task for task in tasks if not any(task.startswith(f"{other}-") for other in tasks)]
    shown = list(tasks) if len(collected.settings) == 1 else mains
    accuracy = _curves(collected, [task for task in shown if task.startswith("classification")], _accuracy)
    yield from _draw_curves("accuracy", accuracy, "accuracy on held-out images", "Accuracy on held-out images")
    for main in mains:
        of_task = [task for task in shown if task == main or task.startswith(f"{main}-")]
        losses = _curves(collected, of_task, lambda line: line.validation_loss)
        title = f"Loss of {main} on held-out images"
        yield from _draw_curves(f"loss-{main}", losses, "loss (log scale)", title, is_log=True)
        distances = _curves(collected, of_task, _distance, is_after=True)
        title = "Images drawn by the better of the weights, against real test images"
        yield from _draw_curves(f"quality-{main}", distances, "Fréchet distance (log scale)", title, is_log=True)
    ships = [line for line in lines if (line.figure.method, line.figure.name) == (SHIPS, "accuracy")]
    yield from _draw_rows("test-accuracy", collected, ships, "accuracy on test images", 1.0, is_share=True)
    generated = [one for one in lines if one.figure.method == GENERATED]
    for key in dict.fromkeys(one.figure.key for one in generated):
        of_key = [one for one in generated if one.figure.key == key]
        named = " ".join(part for part in (of_key[0].figure.name, of_key[0].figure.head) if part)
        safe = "".join(letter if letter.isalnum() else "-" for letter in named)
        yield from _draw_rows(f"quality-{safe}", collected, of_key, f"{named} of generated images", 1.0)
    for main in mains:
        for name, what, unit in (
            ("bytes-up-a-round", "MB that all sites send a round", 1e6),
            ("bytes-down-a-round", "MB that all sites receive a round", 1e6),
            ("seconds-a-round", "seconds a round, median", 1.0),
        ):
            found = [one for one in lines if (one.figure.task, one.figure.name, one.figure.site) == (main, name, "")]
            of = f"{name.rsplit('-a-', 1)[0]}-{main}"
            yield from _draw_rows(of, collected, found, f"{what}, {main}", unit, from_zero=True)
    yield from _draw_sites(collected)


def _accuracy(line: RoundLine) -> float | None:
    return line.figures.get("accuracy")


def _distance(line: RoundLine) -> float | None:
    return min(line.drawn.values(), default=None)


def _curves(
    collected: Collected, tasks: Sequence[str], value: Callable[[RoundLine], float | None], *, is_after: bool = False
) -> Curves:
    """Return a figure of the rounds by series: by setting, or by pass if there is one setting only.

    Args:
        collected: the runs.
        tasks: the passes.
        value: of a round; None if it was not measured.
        is_after: the figure is of the weights after the round, and not of those before it.
    """
    curves: Curves = {}
    for setting, runs in collected.settings.items():
        for task in tasks:
            points: dict[int, list[float]] = {}
            for line in (line for run in runs for line in run.rounds if line.task == task):
                found = value(line)
                if found is not None and math.isfinite(found):
                    before = line.round - 1 if line.validated_round is None else line.validated_round
                    at = line.round if is_after else before
                    points.setdefault(at, []).append(found)
            if points:
                curves[setting if len(collected.settings) > 1 else task] = dict(sorted(points.items()))
    return curves


def _draw_curves(
    name: str, curves: Curves, label: str, title: str, *, is_log: bool = False
) -> Iterator[tuple[str, Figure]]:
    """Draw the mean over the seeds and, as a band, their range."""
    if not curves:
        return
    seeds = max(len(values) for points in curves.values() for values in points.values())
    columns = 1 if max(map(len, curves)) > _LONGEST else 3
    rows = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(_WIDTH, 4.0 + 0.2 * rows), layout="constrained")
    axes = figure.subplots()
    band = 0.15 if len(curves) <= _MANY else 0.06
    for number, (series, points) in enumerate(curves.items()):
        at = list(points)
        style = _style(number)
        axes.plot(at, [sum(values) / len(values) for values in points.values()], label=series, markersize=4, **style)
        low, high = ([end(values) for values in points.values()] for end in (min, max))
        axes.fill_between(at, low, high, color=style["color"], alpha=band, linewidth=0)
    axes.set_xlabel("rounds before the measurement")
    axes.set_ylabel(label)
    if is_log:
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(_title(f"{title}: mean and range of {seeds} seed{'s' if seeds > 1 else ''}"), fontsize=10)
    axes.grid(alpha=0.25)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    yield name, figure


def _draw_rows(
    name: str,
    collected: Collected,
    lines: Sequence[Line],
    label: str,
    unit: float,
    *,
    from_zero: bool = False,
    is_share: bool = False,
) -> Iterator[tuple[str, Figure]]:
    """Draw a row for each setting: every seed, and the mean with its 95 % interval."""
    found = {line.setting: line for line in lines if line.over_seeds.mean is not None}
    if not found:
        return
    figure = Figure(figsize=(_WIDTH, 1.5 + _ROW * len(found)), layout="constrained")
    axes = figure.subplots()
    for number, (setting, line) in enumerate(found.items()):
        values = [value / unit for value in _values(collected.settings[setting], line)]
        own = estimate(values)
        half = 0.0 if own.mean is None or own.high is None else own.high - own.mean
        color = _style(number)["color"]
        axes.plot(values, [number] * len(values), ".", color=color, alpha=0.5, markersize=7)
        axes.errorbar([own.mean or 0.0], [number], xerr=[half], fmt="D", color=color, markersize=5, capsize=3)
    _name_rows(axes, list(found))
    axes.set_xlabel(label)
    if from_zero:
        axes.set_xlim(left=0)
    elif is_share:  # the interval of two seeds may be wider than all that a share can be
        low, high = axes.get_xlim()
        axes.set_xlim(max(low, -0.01), min(high, 1.01))
    axes.set_title("Each seed, mean and 95 % interval", fontsize=10)
    yield name, figure


def _values(runs: Sequence[RunFigures], line: Line) -> list[float]:
    return [one.value for run in runs for one in run.figures if one.key == line.figure.key and one.value is not None]


def _draw_sites(collected: Collected) -> Iterator[tuple[str, Figure]]:
    """Draw what the classifier that ships reaches at each site, and each site's training time: a panel for each."""
    panels = [
        ("home-accuracy", SHIPS, "accuracy on the site's own images"),
        ("seconds-a-round", "", "training, s a round"),
    ]
    found = {name: _by_site(collected, name, method) for name, method, _ in panels}
    shown = [panel for panel in panels if found[panel[0]]]
    if not shown:
        return
    sites = sorted({site for values in found.values() for by_site in values.values() for site in by_site})
    settings = list(collected.settings)
    figure = Figure(
        figsize=(_WIDTH, 1.6 + max(0.05 * len(settings), 0.28) * len(sites) + 0.2 * math.ceil(len(settings) / 3)),
        layout="constrained",
    )
    grid = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
    for axes, (name, _, label) in zip(grid, shown, strict=True):
        for number, setting in enumerate(settings):
            by_site = found[name].get(setting, {})
            shift = 0.7 * ((number + 0.5) / len(settings) - 0.5)
            at = [sites.index(site) + shift for site in by_site]
            means = [sum(values) / len(values) for values in by_site.values()]
            axes.plot(means, at, _MARKERS[number % len(_MARKERS)], color=_style(number)["color"], label=setting,
                      markersize=4)  # fmt: skip
        _name_rows(axes, sites)
        axes.set_xlabel(label)
    handles, labels = grid[0].get_legend_handles_labels()
    columns = 1 if max(map(len, settings)) > _LONGEST else 3
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    figure.suptitle("Each site: mean over the seeds", fontsize=10)
    yield "sites", figure


def _by_site(collected: Collected, name: str, method: str) -> dict[str, dict[str, list[float]]]:
    """Return a figure's values by setting and site."""
    found: dict[str, dict[str, list[float]]] = {}
    for setting, runs in collected.settings.items():
        for run in runs:
            task = run.figures[0].task if run.figures else ""
            for one in run.figures:
                if (one.name, one.method, one.task) == (name, method, task) and one.site and one.value is not None:
                    found.setdefault(setting, {}).setdefault(one.site, []).append(one.value)
    return found


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [textwrap.fill(name, _LONGEST) for name in names], fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.25)


def _title(text: str) -> str:
    return textwrap.fill(text, 80)


def _style(number: int) -> dict[str, Any]:
    colours = len(_COLOURS)
    return {
        "color": _COLOURS[number % colours],
        "linestyle": _LINES[number // colours % len(_LINES)],
        "marker": _MARKERS[(number + number // colours) % len(_MARKERS)],
    }
