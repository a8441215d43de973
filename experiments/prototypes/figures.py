"""The results as pictures."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.prototypes.grid import ROUNDS, SEEDS, SOURCES, SPLITS, STRATEGIES
from experiments.prototypes.places import LDA, LINEAR, NEAREST_MEAN, SHIPS, Approach, Place, Results
from experiments.prototypes.until import THRESHOLD, every_round
from fl_app.grids.estimates import Estimate, estimate

_DPI = 90
_COLOURS = {LINEAR: "0.3", NEAREST_MEAN: "tab:orange", LDA: "tab:blue", SHIPS: "tab:green"}
_LABELS = [split.removeprefix("dirichlet-").replace("iid", "IID") for split in SPLITS]
_READINGS = {
    Approach("global", "linear"): ("linear", "0.3", "s"),
    Approach("consistent", "nearest-mean"): ("nearest-mean, consistent", "tab:orange", "o"),
    Approach("piggyback", "nearest-mean"): ("nearest-mean, piggyback", "tab:red", "v"),
    Approach("local", "nearest-mean"): ("nearest-mean, local", "tab:purple", "^"),
    Approach("local", "linear"): ("linear, each node's own", "0.65", "s"),
}


def draw_all(results: Results, folder: Path) -> list[Path]:
    """Draw all figures into a folder and return their paths."""
    figures = {"rounds": _rounds(results), "gain": _gain(results), "readings": _readings(results)}
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"prototypes-{name}.png")
        figure.savefig(paths[-1], format="png")
    return paths


def _rounds(results: Results) -> Figure:
    """Draw accuracy over rounds, mean and range over the seeds."""
    figure = Figure(figsize=(7, 4.2), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    for approach, colour in _COLOURS.items():
        found = {place.round: list(results.values(place, approach).values()) for place in every_round()}
        points = {number: [100 * value for value in values] for number, values in found.items() if values}
        numbers, means = list(points), [sum(values) / len(values) for values in points.values()]
        lowest, highest = [min(values) for values in points.values()], [max(values) for values in points.values()]
        line = "--" if approach == SHIPS else "-"
        axes.plot(numbers, means, color=colour, linestyle=line, marker=".", label=str(approach))
        axes.fill_between(numbers, lowest, highest, color=colour, alpha=0.15, linewidth=0)
    axes.axhline(100 * THRESHOLD, color="0.5", linestyle="--", linewidth=1)
    axes.set_xlabel("rounds")
    axes.set_ylabel("test accuracy, %")
    axes.set_title(f"Fashion-MNIST, Dirichlet 0.05, FedAvg: mean and range of {len(SEEDS)} seeds", fontsize=10)
    _legend(figure, axes)
    return figure


def _gain(results: Results) -> Figure:
    """Draw the differences to the linear head with their intervals: a row of panels a data set, a column a round."""
    figure = Figure(figsize=(9, 5.2), dpi=_DPI, layout="constrained")
    grid = figure.subplots(len(SOURCES), len(ROUNDS), sharex=True, squeeze=False)
    for source, line in zip(SOURCES, grid, strict=True):
        for number, axes in zip(ROUNDS, line, strict=True):
            axes.axhline(0, color="0.5", linewidth=1)
            for index, (way, name) in enumerate(product((NEAREST_MEAN, LDA), STRATEGIES)):
                places = [Place("heads", source, split, name, number) for split in SPLITS]
                found = [estimate(results.differences(place, way, LINEAR)) for place in places]
                style: dict[str, Any] = {"color": _COLOURS[way], "label": f"{way}, {name}"}
                style["markerfacecolor"] = _COLOURS[way] if name == "FedAvg" else "white"
                _draw_intervals(axes, found, 0.16 * index - 0.24, style)
            _frame(axes, source, number, "points over linear")
    _legend(figure, grid[0][0])
    return figure


def _draw_intervals(axes: Axes, found: Sequence[Estimate], shift: float, style: Mapping[str, Any]) -> None:
    """Draw a mean and its interval above each tick, a little beside it."""
    points = [
        (x + shift, one.mean, 0.0 if one.high is None else one.high - one.mean)
        for x, one in enumerate(found)
        if one.mean is not None
    ]
    if points:
        x, means, halves = zip(*points, strict=True)
        axes.errorbar(x, means, halves, marker="o", markersize=4, linestyle="", linewidth=1, **style)


def _readings(results: Results) -> Figure:
    """Draw the accuracy of the three readings, FedAvg: a row of panels a data set, a column a round."""
    figure = Figure(figsize=(9, 5.2), dpi=_DPI, layout="constrained")
    grid = figure.subplots(len(SOURCES), len(ROUNDS), sharex=True, squeeze=False)
    for source, line in zip(SOURCES, grid, strict=True):
        for number, axes in zip(ROUNDS, line, strict=True):
            for way, (label, colour, marker) in _READINGS.items():
                found = [results.values(Place("heads", source, split, "FedAvg", number), way) for split in SPLITS]
                points = [(x, 100 * sum(some.values()) / len(some)) for x, some in enumerate(found) if some]
                if points:
                    axes.plot(*zip(*points, strict=True), color=colour, marker=marker, label=label, markersize=4)
            _frame(axes, source, number, "test accuracy, %")
    _legend(figure, grid[0][0])
    return figure


def _frame(axes: Axes, source: str, number: int, what: str) -> None:
    axes.set_title(f"{source}, {number} rounds", fontsize=9)
    axes.set_xticks(range(len(SPLITS)), _LABELS)
    if number == ROUNDS[0]:
        axes.set_ylabel(what)
    if source == SOURCES[-1]:
        axes.set_xlabel("Dirichlet")


def _legend(figure: Figure, axes: Axes) -> None:
    """Put the legend of one panel below all of them."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8, frameon=False)
