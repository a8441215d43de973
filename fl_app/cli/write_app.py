"""The command `fl-app write-app`: the Flower app as a folder, for `flwr run`."""

from pathlib import Path
from typing import Annotated

import typer

from fl_app.cli.words import Quiet, Voice
from fl_app.simulation.app import write_app


def write(
    folder: Annotated[Path, typer.Argument(help="A folder that is not there yet.")],
    quiet: Quiet = False,
) -> None:
    """Write the Flower app into a new folder, with options, recipes and code: `flwr run FOLDER` runs it."""
    write_app(folder)
    Voice(quiet).say(f"Flower app: {folder.resolve()}")
