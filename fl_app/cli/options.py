"""The command `fl-app options`: every option of a run with its default."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fl_app.cli.choices import find_app, read_defaults
from fl_app.config import describe_options
from fl_app.sections import OptionValue


def show_options(
    app: Annotated[
        Path | None, typer.Option(help="Folder of the Flower app; default: this one, or the checkout.")
    ] = None,
) -> None:
    """List every option of a run: name, default, meaning."""
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(make_table(read_defaults(find_app(app))))


def make_table(defaults: Mapping[str, OptionValue]) -> Table:
    """Make the table of all options with their defaults."""
    table = Table("option", "default", "meaning", box=None, pad_edge=False)
    for name, description in describe_options():
        default = defaults.get(name)
        shown = str(default).lower() if isinstance(default, bool) else str(default) if default != "" else '""'
        table.add_row(Text(name, no_wrap=True), shown, Text(description))
    return table
