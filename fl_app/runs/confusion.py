"""The picture of a confusion matrix."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fl_app.files import replacing

_LARGEST_WITH_NUMBERS = 12  # classes


def draw_confusion(confusion: NDArray[np.float64], class_names: Sequence[str], title: str, path: Path) -> None:
    """Draw how often images of each class were given each class, a row adding up to 1.

    Args:
        confusion: [K, K] counts, true x predicted.
        class_names: K names.
        title: above the picture.
        path: the PNG to write.
    """
    support = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, support, out=np.zeros_like(confusion), where=support > 0)
    num_classes = len(class_names)
    side = 0.45 * num_classes + 2.0
    figure = Figure(figsize=(side, side), dpi=100, layout="compressed")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_title(f"{title}, n = {int(confusion.sum())}", fontsize=9)
    axes.set_xticks(range(num_classes), class_names, rotation=90, fontsize=8)
    axes.set_yticks(range(num_classes), class_names, fontsize=8)
    axes.set_xlabel("predicted", fontsize=8)
    axes.set_ylabel("true", fontsize=8)
    if num_classes <= _LARGEST_WITH_NUMBERS:
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.005:
                color = "white" if share > 0.5 else "black"
                axes.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=6, color=color)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
