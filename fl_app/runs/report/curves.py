"""The charts of a report over the rounds: losses, figures, heads, time and bytes."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from markupsafe import Markup

from fl_app.quality.figure import CLASSIFIED, WORDING
from fl_app.runs.documents import LOSS_CURVES, RoundLine
from fl_app.runs.exchanges import ExchangeDocument
from fl_app.runs.report.charts import Series, line_chart
from fl_app.runs.report.reading import Material

Charts = list[tuple[str, Markup]]

_BAND = "loss-band-"  # the denoising loss in one band of noise


def curves(material: Material) -> Charts:
    """Return charts of losses and figures of each pass, and of the classifier that exchanges give."""
    found: Charts = []
    for number, (name, lines) in enumerate(_passes(material.rounds).items()):
        failed = [float(one.round) for one in lines if one.outcome == "failed"]
        losses = [_points(lines, key, label, at) for key, label, at in LOSS_CURVES]
        _add(found, f"Loss: {name}", losses, y_label="loss, log scale", key=f"loss{number}", is_log=True, marks=failed)
        for place, (title, y_label, series) in enumerate(_figures(lines)):
            is_log = y_label.endswith("log scale")
            _add(found, f"{title}: {name}", series, y_label=y_label, key=f"fig{number}-{place}", is_log=is_log)
    drawn = dict.fromkeys(name for one in material.rounds for name in one.drawn)
    distances = [
        Series(f"{name} weights", [(float(one.round), one.drawn[name]) for one in material.rounds if name in one.drawn])
        for name in drawn
    ]
    _add(found, "Quality of the images: Fréchet distance", distances, y_label="Fréchet distance", key="drawn")
    for number, (name, exchanges) in enumerate(material.exchanges.items()):
        if len(exchanges) > 1:
            heads = _heads_over_rounds(exchanges)
            _add(found, f"Heads after rounds: {name}", heads, y_label="accuracy", key=f"ex{number}")
    return found


def cost_charts(rounds: Sequence[RoundLine]) -> Charts:
    """Return charts of the seconds and bytes of the rounds of each pass."""
    found: Charts = []
    passes = _passes(rounds)
    seconds = [_points(lines, "seconds", name, "round") for name, lines in passes.items()]
    _add(found, "Seconds a round", seconds, y_label="seconds, log scale", key="seconds", is_log=True)
    sent = [
        Series(name, [(float(one.round), (one.bytes_down + one.bytes_up) / 1e6) for one in lines])
        for name, lines in passes.items()
    ]
    _add(found, "Megabytes a round, both ways", sent, y_label="MB, log scale", key="bytes", is_log=True)
    return found


def _passes(rounds: Sequence[RoundLine]) -> dict[str, list[RoundLine]]:
    return {name: [one for one in rounds if one.task == name] for name in dict.fromkeys(one.task for one in rounds)}


def _figures(lines: Sequence[RoundLine]) -> Iterator[tuple[str, str, list[Series]]]:
    """Yield title, vertical axis and lines: of the shares, of the losses by noise, and of each other figure alone."""
    keys = list(dict.fromkeys(key for one in lines for key in one.figures))

    def series(key: str) -> Series:
        points = [(one.validated_round, one.figures.get(key)) for one in lines]
        return Series(
            WORDING.get(key, key.replace(_BAND, "noise band ")),
            [(float(x), y) for x, y in points if x is not None and y is not None],
        )

    yield "Figures", "share", [series(key) for key in keys if key in CLASSIFIED]
    yield "Loss by noise", "loss by noise, log scale", [series(key) for key in keys if key.startswith(_BAND)]
    for key in keys:  # of a plug-in: its scale is its own
        if key not in CLASSIFIED and not key.startswith(_BAND):
            yield key, key, [series(key)]


def _heads_over_rounds(exchanges: Sequence[ExchangeDocument]) -> list[Series]:
    part = "test" if exchanges[-1].test_set else "validation"
    found: dict[str, list[tuple[float, float]]] = {}
    for one in exchanges:
        for row in one.results:
            if row.part == part and row.figures.get("accuracy") is not None:
                found.setdefault(f"{row.head} ({row.reading})", []).append((float(one.round), row.figures["accuracy"]))
    return [Series(name, points) for name, points in found.items()]


def _points(lines: Iterable[RoundLine], key: str, label: str, at: str) -> Series:
    pairs = [(getattr(line, at), getattr(line, key)) for line in lines]
    return Series(label, [(float(x), float(y)) for x, y in pairs if x is not None and y is not None])


def _add(found: Charts, title: str, series: Sequence[Series], **more: Any) -> None:
    chart = line_chart(title, series, x_label="round", **more)
    if chart is not None:
        found.append((title, chart))
