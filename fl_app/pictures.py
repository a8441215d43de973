"""One style for all pictures that fl-app draws: PNG of 200 dpi and SVG, colours safe for colour-blind readers."""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fl_app.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 200
# Okabe and Ito's colours, the lighter ones darkened for lines on white; each line has dashes of its own, too.
SERIES = ("#0072b2", "#b34700", "#00795c", "#a0447a", "#c98a00", "#3c9bd1", "#000000")
DASHES = ("-", "--", ":", "-.")
LINES = tuple(zip(SERIES, DASHES, strict=False))
FAILED = "#a3261b"
SHADES, DARKEST = "Blues", 1.6  # 1 is at 1 / 1.6 of the map, so that black text can be read on every shade

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#50565e",
    "xtick.color": "#1a1d21",
    "ytick.color": "#1a1d21",
    "grid.color": "#d5d9de",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "figure.titlesize": 10.0,
    "figure.titleweight": "bold",
    "savefig.bbox": "tight",  # whatever is long makes the picture larger, and is never cut off
    "savefig.pad_inches": 0.12,
    "text.parse_math": False,  # names of classes and sites are plain text
    "svg.hashsalt": "fl-app",  # the same picture has the same bytes
}
_LONGEST = 28  # characters of a name
_LETTER = 0.08  # width of a letter, in inches


@contextmanager
def picture(path: Path, width: float, height: float, *, with_svg: bool = True) -> Iterator["Figure"]:
    """Give a figure in the common style; if the block raises nothing, it is written whole, as PNG and as SVG.

    Args:
        path: of the PNG; the SVG is beside it.
        width: in inches; long labels make the picture larger.
        height: likewise.
        with_svg: also write the SVG.

    Raises:
        RunFolderError: a file cannot be written.
    """
    from matplotlib.figure import Figure  # slow to import, and of no use to a node

    with common_style():
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        save_picture(figure, path, with_svg=with_svg)


@contextmanager
def common_style() -> Iterator[None]:
    """Draw in the common style within the block."""
    from matplotlib import rc_context

    with rc_context(_STYLE):
        yield


def save_picture(figure: "Figure", path: Path, *, with_svg: bool = True) -> None:
    """Write a figure that was drawn in the common style, whole or not at all; arguments and errors as of `picture`."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)
    if with_svg:
        with replacing(path.with_suffix(".svg")) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


def shorten(name: str) -> str:
    """Return a name that a picture can show: cut if it is very long, without control characters."""
    name = "".join(sign if sign.isprintable() else "?" for sign in name)
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def name_columns(axes: "Axes", names: Sequence[str], inches: float) -> None:
    """Write names below columns that are so many inches wide; names that are wider stand aslant."""
    shown = [shorten(name) for name in names]
    is_aslant = max(map(len, shown), default=0) * _LETTER > inches
    axes.set_xticks(range(len(shown)), shown, rotation=40 if is_aslant else 0, ha="right" if is_aslant else "center")


def fold(title: str, inches: float) -> str:
    """Return a title in lines that fit into a width."""
    return textwrap.fill(title, max(24, int(inches * 12)))
