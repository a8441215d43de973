"""The comparison as pictures, in the common style."""

import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator

from fl_app.grids.collecting import Collected
from fl_app.grids.comparing import Line
from fl_app.grids.estimates import estimate
from fl_app.grids.reading import GENERATED, SHIPS
from fl_app.pictures import DASHES, SERIES, common_style, save_picture
from fl_app.quality.figure import WORDING
from fl_app.runs.documents import RoundLine

_WIDTH = 7.0  # inches
_MARKERS = ("o", "s", "^", "v", "D", "P", "X")
_ROW = 0.34  # inches for each setting of a picture with a row for each
_MANY = 5  # series whose bands lie upon one another
_LONGEST = 28  # characters of a label before it is broken

_BYTES = (
    ("bytes-up-a-round", "MB up, a round", 1e6),
    ("bytes-down-a-round", "MB down, a round", 1e6),
)
_SECONDS = (("seconds-a-round", "seconds, a round", 1.0), ("seconds", "seconds, all rounds", 1.0))

Curves = dict[str, dict[int, list[float]]]  # series -> x -> values of the seeds


class _Decimals(LogFormatter):
    """Writes the numbers that `LogFormatter` would write, as 0.06 and not as 6e-02."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


@dataclass(frozen=True)
class Panel:
    """A figure that a part of a picture shows.

    Attributes:
        label: under the axis.
        lines: of the figure, at most one for each setting.
        unit: that values are divided by.
        from_zero: the axis begins at 0.
        is_share: the axis ends at 0 and 1.
    """

    label: str
    lines: Sequence[Line]
    unit: float = 1.0
    from_zero: bool = False
    is_share: bool = False


def draw_all(collected: Collected, lines: Sequence[Line], folder: Path) -> list[Path]:
    """Draw whatever the runs hold into a folder, each as SVG and PNG, and return the paths of the PNGs.

    Raises:
        RunFolderError: a picture cannot be written.
    """
    paths = []
    with common_style():
        for name, figure in _figures(collected, lines):
            paths.append(folder / f"{name}.png")
            save_picture(figure, paths[-1])
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
    ships = [one for one in lines if (one.figure.method, one.figure.name) == (SHIPS, "accuracy")]
    yield from _draw_panels("test-accuracy", collected, [Panel("accuracy on test images", ships, is_share=True)])
    generated = [one for one in lines if one.figure.method == GENERATED]
    by_key = [[one for one in generated if one.figure.key == key] for key in _keys(generated)]
    named = [Panel(" ".join(filter(None, (of[0].figure.name, of[0].figure.head))), of) for of in by_key]
    yield from _draw_panels("generated-images", collected, named)
    for name, kinds in (("bytes", _BYTES), ("seconds", _SECONDS)):
        panels = []
        for main, (figure, what, unit) in product(mains, kinds):
            found = [one for one in lines if (one.figure.task, one.figure.name, one.figure.site) == (main, figure, "")]
            panels.append(Panel(f"{main}: {what}", found, unit, from_zero=True))
        yield from _draw_panels(name, collected, panels, columns=2)
    yield from _draw_sites(collected)


def _keys(lines: Sequence[Line]) -> list[tuple[str, str, str, str, str]]:
    return list(dict.fromkeys(line.figure.key for line in lines))


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
    axes.set_xlabel("rounds of training")
    axes.set_ylabel(label)
    if is_log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(_Decimals())
        axes.yaxis.set_minor_formatter(_Decimals(minor_thresholds=(2, 0.4)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_title(_title(f"{title}: mean and range of {seeds} seed{'s' if seeds > 1 else ''}"))
    axes.grid()
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8)
    yield name, figure


def _draw_panels(
    name: str, collected: Collected, panels: Sequence[Panel], *, columns: int = 3
) -> Iterator[tuple[str, Figure]]:
    """Draw a panel for each figure: in it a row for each setting, with every seed, the mean and its 95 % interval."""
    shown = [panel for panel in panels if any(line.over_seeds.mean is not None for line in panel.lines)]
    if not shown:
        return
    settings = list(collected.settings)
    columns = min(len(shown), columns)
    rows = math.ceil(len(shown) / columns)
    size = (_WIDTH + 1.5 * (columns - 1), 0.5 + rows * (0.9 + _ROW * len(settings)))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes, panel in zip(grid.flat, shown, strict=False):
        for line in panel.lines:
            _draw_row(axes, settings.index(line.setting), [one / panel.unit for one in _values(collected, line)])
        axes.set_xlabel(textwrap.fill(panel.label, 36), fontsize=9)
        axes.tick_params(axis="x", labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        _name_rows(axes, settings)
        low, high = axes.get_xlim()
        if panel.from_zero:
            axes.set_xlim(0, high)
        elif panel.is_share:  # the interval of two seeds may be wider than all that a share can be
            axes.set_xlim(max(low, -0.01), min(high, 1.01))
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_axis_off()
    _head(figure, "Each seed, mean and 95 % interval")
    yield name, figure


def _draw_row(axes: Axes, number: int, values: Sequence[float]) -> None:
    own = estimate(values)
    if own.mean is None:
        return
    half = 0.0 if own.high is None else own.high - own.mean
    color = _style(number)["color"]
    axes.plot(values, [number] * len(values), ".", color=color, alpha=0.5, markersize=7)
    axes.errorbar([own.mean], [number], xerr=[half], fmt="D", color=color, markersize=5, capsize=3)


def _values(collected: Collected, line: Line) -> list[float]:
    runs = collected.settings[line.setting]
    return [one.value for run in runs for one in run.figures if one.key == line.figure.key and one.value is not None]


def _draw_sites(collected: Collected) -> Iterator[tuple[str, Figure]]:
    """Draw what the classifier that ships reaches at each site, and each site's training time: a panel for each."""
    panels = [
        ("home-accuracy", SHIPS, WORDING["home-accuracy"]),
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
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8)
    _head(figure, "Each site: mean over the seeds")
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
    axes.grid(axis="x")


def _head(figure: Figure, text: str) -> None:
    figure.suptitle(text, x=0.01, ha="left")


def _title(text: str) -> str:
    return textwrap.fill(text, 80)


def _style(number: int) -> dict[str, Any]:
    colours = len(SERIES)
    return {
        "color": SERIES[number % colours],
        "linestyle": DASHES[number // colours % len(DASHES)],
        "marker": _MARKERS[(number + number // colours) % len(_MARKERS)],
    }
