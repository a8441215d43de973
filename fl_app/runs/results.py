"""The results of a run in a few figures, read from its folder; imports nothing heavy."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from fl_app.quality.figure import FRECHET
from fl_app.runs.documents import RoundLine
from fl_app.runs.quality import QualityDocument

COMPARISON = Path("classification", "comparison.csv")

_SHIPS = "(ships)"


def read_comparison(folder: Path) -> list[dict[str, str]]:
    """Return the rows of comparison.csv; none if the run has trained no classifier, or has not finished it."""
    try:
        with (folder / COMPARISON).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        return []


def lost_results(
    tasks: Sequence[str], rounds: Sequence[RoundLine], comparison: Sequence[Mapping[str, str]]
) -> Iterator[str]:
    """Yield what a run that has ended well lacks, since its metrics.jsonl or comparison.csv is missing or damaged."""
    if not rounds:
        yield "metrics.jsonl is missing or empty: losses, bytes and seconds are not known"
    if "classification" in tasks and not comparison:
        yield f"{COMPARISON} is missing or damaged: the figures on test images are not known"


def read_figure(text: str | None) -> int | float | str | None:
    """Return a cell of the table: a number, whole if it is a count, the text in place of one, or None if empty."""
    with suppress(ValueError):
        return int(text or "")
    with suppress(ValueError):
        return float(text or "")
    return text or None


def describe_results(found: Mapping[str, float]) -> str:
    """Return the figures of a run in a line, such as `diffusion loss 0.0312, accuracy 0.912`."""
    return ", ".join(
        f"{name.replace('-', ' ')} {value:.4f}" if name.endswith("loss") else f"{name.replace('-', ' ')} {value:.3f}"
        for name, value in found.items()
    )


def results(
    tasks: Sequence[str],
    rounds: Sequence[RoundLine],
    comparison: Sequence[Mapping[str, str]],
    quality: QualityDocument | None,
) -> dict[str, float]:
    """Return the figures that a run has reached, by name.

    These are `<task>-loss`, of the last round that counts, on held-out images; `frechet-<features>`, the distance of
    generated images from real ones; and, of the classifier that ships, `accuracy` on test images, or `home-accuracy` on
    the nodes' own held-out images if there are none.

    Args:
        tasks: that it trains.
        rounds: the finished ones.
        comparison: rows of comparison.csv.
        quality: figures of generated images; None if there are none.
    """
    found: dict[str, float] = {}
    for task in tasks:
        losses = [one.validation_loss for one in rounds if (one.task, one.outcome) == (task, "ok")]
        if measured := [loss for loss in losses if loss is not None]:
            found[f"{task}-loss"] = measured[-1]
    for one in quality.figures if quality else ():
        if one.name == FRECHET and one.class_name is None and one.value is not None:
            found[f"frechet-{one.features}"] = one.value
    for row in comparison:
        if (row.get("approach") or "").endswith(_SHIPS):
            figures = {name: read_figure(row.get(name)) for name in ("accuracy", "home-accuracy")}
            known = {name: value for name, value in figures.items() if isinstance(value, int | float)}
            found |= dict(list(known.items())[:1])
    return found
