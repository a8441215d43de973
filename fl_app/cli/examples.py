"""The command `fl-app example-images`: a folder of images, such as a hospital has, to try everything with."""

from pathlib import Path
from typing import Annotated

import typer

from fl_app.cli.words import Quiet, Voice


def example_images(
    folder: Annotated[Path, typer.Argument(help="Gets a folder for each class; made where it is missing.")],
    share: Annotated[int, typer.Option(help="Which hospital's share, counted from 1.", min=1)] = 1,
    of: Annotated[int, typer.Option(help="Hospitals that the images are shared out among.", min=1)] = 1,
    quiet: Quiet = False,
) -> None:
    """Write digits as PNG files of 8 x 8 pixels, a folder for each class; class folders that exist stay."""
    from fl_app.data.digits import write_examples

    count = write_examples(folder, share, of)
    Voice(quiet).say(f"{folder}: {count} images written" if count else f"{folder}: has all classes already")
