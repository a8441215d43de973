"""The command `fl-app options`: every option of a run with its default."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fl_app.cli.choices import find_app
from fl_app.config import default_options, describe_options


def show_options(
    app: Annotated[
        Path | None, typer.Option(help="Folder of the Flower app; default: this one, or the checkout.")
    ] = None,
) -> None:
    """List every option of a run: name, default, meaning."""
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(make_table(find_app(app) / "pyproject.toml"))


def make_table(pyproject: Path) -> Table:
    """Make the table of all options, with the defaults that a pyproject.toml holds."""
    defaults = default_options(pyproject)
    table = Table("option", "default", "meaning", box=None, pad_edge=False)
    for name, description in describe_options():
        default = defaults.get(name)
        shown = str(default).lower() if isinstance(default, bool) else str(default) if default != "" else '""'
        table.add_row(Text(name, no_wrap=True), shown, Text(description))
    return table
