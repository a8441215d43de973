"""The number of images of each node and class, as a text table and as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fl_app.files import replacing

_MAX_NAME = 14  # characters of a class name above a column


def split_table(counts: Mapping[str, Sequence[int]], class_names: Sequence[str]) -> str:
    """Return a plain text table, nodes by classes, with totals.

    Args:
        counts: {site: images of each class, K numbers}.
        class_names: K names; long ones are cut.
    """
    names = [name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…" for name in class_names]
    totals = [sum(column) for column in zip(*counts.values(), strict=True)] if counts else [0] * len(names)
    rows = [["node", *names, "total"]]
    rows += [[site, *map(str, row), str(sum(row))] for site, row in [*counts.items(), ("total", totals)]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def draw_split(counts: Mapping[str, Sequence[int]], class_names: Sequence[str], path: Path) -> None:
    """Draw one bar a node, stacked by class; the file appears whole or not at all.

    Args:
        counts: {site: images of each class, K numbers}.
        class_names: K names.
        path: of the file; its suffix decides the format, such as .png or .svg.
    """
    from matplotlib import colormaps  # slow to import, and of no use to a node
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.6 + 0.28 * max(len(counts), len(class_names) / 2)), layout="constrained")
    axes = figure.add_subplot()
    table = np.array(list(counts.values()), dtype=np.int64).reshape(len(counts), len(class_names))
    starts = table.cumsum(axis=1) - table
    palette = colormaps["tab10" if len(class_names) <= 10 else "tab20" if len(class_names) <= 20 else "turbo"]
    for label, name in enumerate(class_names):
        colour = palette(label if len(class_names) <= 20 else label / (len(class_names) - 1))
        axes.barh(list(counts), table[:, label], left=starts[:, label], color=colour, label=name, height=0.8)
    for row, total in enumerate(table.sum(axis=1)):
        axes.text(total, row, f" {total}", va="center", fontsize="small")
    axes.invert_yaxis()  # the first node on top
    axes.margins(x=0.08, y=0.01)
    axes.set_xlabel("images")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(title="class", loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small", frameon=False)

    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
