"""The losses of a run as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fl_app.runs.documents import RoundLine

_CURVES = (
    ("train_loss", "training", "round"),
    ("validation_loss", "validation, raw weights", "validated_round"),
    ("validation_loss_ema", "validation, EMA", "validated_round"),
    ("validation_loss_node_ema", "validation, nodes' EMA", "validated_round"),
)


def draw_history(lines: Sequence[RoundLine], path: Path) -> None:
    """Draw the losses over the rounds; failed rounds are marked.

    Args:
        lines: of metrics.jsonl, one task.
        path: the PNG to write.
    """
    figure = Figure(figsize=(7, 4), dpi=100, layout="constrained")
    axes = figure.subplots()
    for key, label, number in _CURVES:
        points = [(getattr(line, number), loss) for line in lines if (loss := getattr(line, key)) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), marker=".", label=label)
    for line in lines:
        if line.outcome == "failed":
            axes.axvline(line.round, color="tab:red", alpha=0.3)
    axes.set_xlabel("round")
    axes.set_ylabel("loss (log scale)")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if axes.get_legend_handles_labels()[1]:
        axes.legend()
    figure.savefig(path, format="png")
