"""The words that mean the same in every command: arguments and options, and what `--json` and `--quiet` do."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fl_app.errors import OptionError
from fl_app.simulation.follow import GPU_SHARE

_WIDE = 200  # columns
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".webp", ".bmp")

Recipe = Annotated[str | None, typer.Argument(help="A name in recipes/, or a TOML file of run options.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override an option; see `fl-app options`.")
]
App = Annotated[
    Path | None, typer.Option(help="Folder of the Flower app; default: this one if it is one, else fl-app's own.")
]
Runs = Annotated[
    Path | None,
    typer.Option("--runs", metavar="FOLDER", help="Where runs are looked up by name; default: ~/fl-app/runs."),
]
NodeOptions = Annotated[
    str,
    typer.Option(
        "--node-config", help='The node\'s options, exactly as for fl-app supernode: \'data-path="/data" site="x"\'.'
    ),
]
StateDir = Annotated[
    Path | None,
    typer.Option("--state-dir", help="The node option 'state-dir'; default: the one that a node has."),
]
Nodes = Annotated[int, typer.Option(help="Simulated nodes.", min=1)]
GpuShare = Annotated[
    float | None,
    typer.Option("--gpu-share", help=f"Part of a GPU for each node; default: {GPU_SHARE} if there is one.", min=0),
]
Baseline = Annotated[
    str | None, typer.Option("--baseline", help="The setting that differences are taken to; default: the first.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")]


def open_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Return a console that writes no control characters, and cuts nothing off, if it is no screen."""
    stream = sys.stderr if stderr else sys.stdout
    is_tty = stream.isatty()
    width = None if is_tty else _WIDE
    return Console(highlight=False, stderr=stderr, quiet=quiet, force_terminal=is_tty, width=width)


@dataclass(frozen=True)
class Voice:
    """Prints what a command has to say.

    Attributes:
        quiet: prints only errors and the JSON document.
        as_json: stdout is for one JSON document; other lines go to stderr.
    """

    quiet: bool = False
    as_json: bool = False

    def say(self, text: str) -> None:
        """Print a line for people."""
        if not self.quiet:
            typer.echo(text, err=self.as_json)

    def warn(self, text: str) -> None:
        """Print a line on stderr that is no error."""
        if not self.quiet:
            typer.secho(text, fg="yellow", err=True)

    def complain(self, text: str) -> None:
        """Print an error."""
        typer.secho(text, fg="red", err=True)

    def answer(self, document: Mapping[str, object]) -> None:
        """Print the JSON document, if it is asked for; a number that is not finite becomes null."""
        if self.as_json:
            typer.echo(json.dumps(_plain(document), indent=1, allow_nan=False))


def check_file(out: Path, option: str = "--out") -> None:
    """Refuse, before the work begins, a result file that is no file or has no folder; raises OptionError."""
    if out.exists() and not out.is_file():
        raise OptionError(f"{option} must name a file, got {out}.")
    if not (parent := out.absolute().parent).is_dir():
        raise OptionError(f"{option} names a file in {parent}, which is no folder. Make that folder first.")


def check_folder(out: Path) -> None:
    """Refuse, before the work begins, a result folder that is a file or is named like a picture; raises OptionError."""
    if out.is_dir():
        return
    if out.exists():
        raise OptionError(f"--out must name a folder, got the file {out}.")
    if out.suffix.lower() in _PICTURES:
        raise OptionError(f"--out must name a folder for the pictures, got {out}. Leave '{out.suffix}' out.")


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
