"""The command `fl-app compare`: runs side by side, over their seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fl_app.cli.words import AsJson, Baseline, Quiet, Runs, Voice, check_folder, open_console
from fl_app.errors import RunFolderError
from fl_app.runs.overview import runs_folder

if TYPE_CHECKING:
    from fl_app.grids.comparison import Comparison

_OWN_FOLDER = "comparison"  # in the current folder, for runs of no grid


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN…|GRID", help="Runs, by folder or name; or a grid of `fl-app repeat`.")
    ],
    baseline: Baseline = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Where tables and pictures go; default: the grid's folder, else `comparison` here."
        ),
    ] = None,
    where: Runs = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare finished runs: means and deviations over seeds, differences paired by seed, bytes, seconds, pictures.

    Runs that differ only in their seed are one setting. Exit status: 2 if a run does not exist or none is finished.
    """
    from fl_app.grids.comparison import compare_runs

    if out is not None:
        check_folder(out.expanduser())
    comparison = compare_runs(runs, runs_folder(where), baseline)
    folder = out.expanduser() if out else comparison.grid or Path(_OWN_FOLDER)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{folder} cannot be made: {error.strerror}. Choose another --out.") from None
    files = comparison.write(folder)
    print_comparison(comparison, files, open_console(stderr=as_json, quiet=quiet))
    Voice(quiet, as_json).answer({"folder": folder.absolute(), "files": files, **comparison.to_json()})


def print_comparison(comparison: "Comparison", files: Sequence[Path], console: Console) -> None:
    """Print the most important means, what was left out, and where the files are."""
    table = Table(box=None, pad_edge=False)
    head, rows = comparison.summary()
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    if rows:
        console.print(table)
    for problem in comparison.problems:
        console.print(Text(problem), soft_wrap=True)
    for path in files[:2]:
        console.print(f"{path.stem if path.suffix == '.csv' else 'page'}: {path}", soft_wrap=True, markup=False)
    if files[2:]:
        console.print(f"pictures: {', '.join(path.name for path in files[2:])}, and SVGs", soft_wrap=True, markup=False)
