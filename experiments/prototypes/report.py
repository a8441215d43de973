"""From run folders to docs/results: a CSV, a page and pictures."""

from collections.abc import Iterable
from pathlib import Path

from experiments.prototypes.figures import draw_all
from experiments.prototypes.grid import Cell
from experiments.prototypes.page import page
from experiments.prototypes.places import Results
from experiments.prototypes.results import collect, to_csv
from fl_app.errors import RunFolderError
from fl_app.files import write_text


def write_report(cells: Iterable[Cell], out: Path, folder: Path) -> list[Path]:
    """Write what the finished cells reached and return the paths of the files.

    Raises:
        RunFolderError: no cell is finished.
        OptionError: a folder holds a run of other options.
    """
    found = collect(cells, out)
    if not found.rows:
        raise RunFolderError(f"{out} holds no finished cell: `python -m experiments.prototypes run` comes first.")
    csv, markdown = folder / "prototypes.csv", folder / "prototypes.md"
    write_text(csv, to_csv(found.rows))
    figures = draw_all(Results(found.rows), folder)
    write_text(markdown, page(found, [path.name for path in figures]))
    return [csv, markdown, *figures]
