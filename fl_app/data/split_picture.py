"""The number of images of each node and class, as a text table and as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl_app.pictures import DARKEST, SHADES, fold, name_columns, picture, shorten

_MAX_NAME = 14  # characters of a class name above a column
_MOST_WITH_SHARES = 12  # classes
_MOST_CELLS = 2000


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
    """Draw a table with a row for each node: images of each class, shaded by their number; PNG, and SVG beside it.

    Each file appears whole or not at all.

    Args:
        counts: {site: images of each class, K numbers}.
        class_names: K names.
        path: of the PNG.
    """
    num_nodes, num_classes = len(counts), len(class_names)
    table = np.array(list(counts.values()), dtype=np.int64).reshape(num_nodes, num_classes)
    total = table.sum(axis=1)
    cell = 0.72 if num_classes <= _MOST_WITH_SHARES else 0.46
    width, height = max(3.2, cell * num_classes), max(1.0, 0.46 * num_nodes)
    with picture(path, width + 1.6, height + 1.2) as figure:
        axes = figure.add_subplot()
        largest = max(int(table.max(initial=0)), 1)
        axes.imshow(table, cmap=SHADES, vmin=0, vmax=DARKEST * largest, aspect="auto", extent=_extent(table))
        name_columns(axes, class_names, width / max(num_classes, 1))
        axes.set_yticks(
            range(num_nodes), [f"{shorten(site)}  (n = {n})" for site, n in zip(counts, total, strict=True)]
        )
        axes.set_title(fold(f"Training images of each site and class, n\u00a0=\u00a0{total.sum()}", width + 1.0))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        if num_nodes * num_classes <= _MOST_CELLS:
            for (row, column), n in np.ndenumerate(table):
                share = f"\n{100 * n / total[row]:.0f} %" if num_classes <= _MOST_WITH_SHARES and n else ""
                axes.text(column, row, f"{n}{share}", ha="center", va="center", fontsize=7)


def _extent(table: NDArray[np.int64]) -> tuple[float, float, float, float]:
    """Return the edges of a table whose cells have whole numbers as middles; without nodes, those of one cell."""
    rows, columns = table.shape
    return -0.5, max(columns, 1) - 0.5, max(rows, 1) - 0.5, -0.5
