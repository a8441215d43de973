"""The history of a pass: its losses, a line for each round, a picture of them, and whether it has learned anything."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from fl_app.messages.arrays import Weights
from fl_app.pictures import FAILED, LINES, picture
from fl_app.runs.documents import LOSS_CURVES, RoundLine
from fl_app.strategies.outcomes import RoundRecord
from fl_app.sums import Sums, add, decide, elect, only, steady

MODEL_NAMES = ("raw", "ema", "node-ema")
STEADY_FACTOR = 3.0  # a single site may not move a loss by more than this factor


@dataclass(frozen=True)
class Losses:
    """Validation losses of sets of weights.

    Attributes:
        of: by name; those that were not measured are missing.
        better: the set that the sites' held-out images prefer; None if nothing was measured.
    """

    of: dict[str, float]
    better: str | None


def measured_losses(loss_of: Callable[[Sums], float | None], parts: Mapping[str, Sums]) -> Losses:
    """Return the validation loss of each set of weights, and which set is better; no single site decides either.

    Args:
        loss_of: of the task, for one set of weights.
        parts: what each site measured.
    """
    total = add(parts.values())

    def loss(name: str, sums: Sums) -> float | None:
        return loss_of(own) if (own := only(sums, name)) else None

    def better(sums: Sums) -> str | None:
        found = {name: value for name in MODEL_NAMES if (value := loss(name, sums)) is not None}
        return min(found, key=found.__getitem__, default=None)

    found = {name: steady(total, parts, partial(loss, name), STEADY_FACTOR) for name in MODEL_NAMES}
    return Losses({name: value for name, value in found.items() if value is not None}, elect(total, parts, better))


def round_line(
    record: RoundRecord, num_rounds: int, losses: Losses, figures: Mapping[str, float | None], drawn: dict[str, float]
) -> RoundLine:
    """Return the line of a round that has just ended; losses and figures are of the weights before it, drawn after."""
    _, num_losses = record.losses()
    ended = time.time()
    return RoundLine(
        task=record.task,
        round=record.round_number,
        num_rounds=num_rounds,
        outcome="ok" if record.reason is None else "failed",
        reason=record.reason,
        train_loss=record.steady_loss(STEADY_FACTOR),
        median_train_loss=record.median_loss(),
        validated_round=record.round_number - 1,
        validation_loss=losses.of.get("raw"),
        validation_loss_ema=losses.of.get("ema"),
        validation_loss_node_ema=losses.of.get("node-ema"),
        figures=dict(figures),
        drawn=drawn,
        images=int(num_losses),
        started=ended - record.seconds,
        ended=ended,
        seconds=record.seconds,
        images_per_second=num_losses / record.seconds if record.seconds > 0 else None,
        bytes_down=record.traffic.down,
        bytes_up=record.traffic.up,
        asked=record.asked,
        nodes=dict(sorted(record.nodes.items())),
    )


def draw_history(lines: Sequence[RoundLine], path: Path) -> None:
    """Draw the losses over the rounds, as PNG and as SVG; failed rounds are marked.

    Args:
        lines: of metrics.jsonl, one task.
        path: of the PNG.
    """
    with picture(path, 6.5, 3.6) as figure:
        axes = figure.subplots()
        for (key, label, number), (colour, dashes) in zip(LOSS_CURVES, LINES, strict=True):
            points = [(getattr(line, number), getattr(line, key)) for line in lines]
            points = [(at, loss) for at, loss in points if at is not None and loss is not None]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=label, color=colour, linestyle=dashes)
        failed = [line.round for line in lines if line.outcome == "failed"]
        for number_failed, at in enumerate(failed):
            label = "failed round" if number_failed == 0 else "_"
            axes.axvline(at, color=FAILED, linestyle=(0, (1, 2)), label=label)
        axes.set_title(f"Loss of {lines[-1].task}" if lines else "Loss")
        axes.set_xlabel("round")
        axes.set_ylabel("loss (log scale)")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0, 7.0), numticks=8))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.grid(visible=True, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axes.get_legend_handles_labels()[1]:
            axes.legend()


def objection(
    name: str,
    improved: Callable[[Sums, Sums], bool | None],
    chosen: str,
    weights: Weights,
    parts: Mapping[str, Sums],
    holds_out: bool,
    history: Sequence[RoundLine],
) -> str | None:
    """Return why a model must not be exported; None if it is better than the untrained one.

    Both are compared on the same held-out images of the same sites. If the result depends on one site, most sites must
    find the model better. Without held-out images the training losses of the first and the last round are compared; if
    there is only one round, it is enough that its loss is known.

    Args:
        name: of the pass.
        improved: tells by the sums of the untrained and the trained model whether it got better; None: not measured.
        chosen: name of the weights.
        weights: of the model.
        parts: the final measurement of each site.
        holds_out: most sites with images hold some out; else one site could make up the only held-out images.
        history: the rounds.
    """
    if not all(np.isfinite(value).all() for value in weights.values()):
        return f"The model of {name} is not exported: a weight is not a finite number."

    def vote(sums: Sums) -> bool | None:
        start, end = only(sums, "initial"), only(sums, chosen)
        return improved(start, end) if start and end else None

    measured = {site: part for site, part in parts.items() if vote(part) is not None}
    if holds_out and measured:
        learned = decide(add(measured.values()), measured, lambda total: vote(total) is True, vote)
    elif holds_out:
        return f"The model of {name} is not exported: no site measured it on its held-out images."
    else:
        losses = [line.median_train_loss for line in history if line.outcome == "ok"]
        curve = [loss for loss in losses if loss is not None]
        if not curve:
            return f"The model of {name} is not exported: nothing was measured of it."
        learned = len(curve) == 1 or curve[-1] < curve[0]
    return None if learned else f"Nothing was learned: {name} is no better than the untrained model."
