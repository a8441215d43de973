"""The command `fl-app`: its subcommands, and the exit status of errors."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from fl_app.cli.bundle_logs import bundle_logs
from fl_app.cli.cache import cache
from fl_app.cli.credentials import certificates, keys
from fl_app.cli.doctor import doctor
from fl_app.cli.examples import example_images
from fl_app.cli.options import show_options
from fl_app.cli.predict import predict
from fl_app.cli.prototypes import prototypes
from fl_app.cli.run import run
from fl_app.cli.runs import list_runs
from fl_app.cli.sample import sample
from fl_app.cli.status import status
from fl_app.cli.supernode import supernode
from fl_app.cli.write_app import write
from fl_app.errors import FlAppError, OptionError
from fl_app.simulation.processes import Interrupted, interruptible

app = typer.Typer(
    name="fl-app",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Hospitals that may not share images train a diffusion model and a classifier together.",
)
app.command("run")(run)
app.command("sample")(sample)
app.command("predict")(predict)
app.add_typer(prototypes, name="prototypes")
app.command("doctor")(doctor)
app.add_typer(cache, name="cache")
app.command(
    "supernode",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(supernode)
app.command("status")(status)
app.command("runs")(list_runs)
app.command("bundle-logs")(bundle_logs)
app.command("options")(show_options)
app.command("certificates")(certificates)
app.command("keys")(keys)
app.command("example-images")(example_images)
app.command("write-app")(write)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"fl-app {version('fl-app')}")
        raise typer.Exit


@app.callback()
def _common(
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Keep the options that stand before a command."""


def run_command_line() -> None:
    """Run one command: status 2 for a wrong option, 1 for what else can go wrong, 128 + n after signal n."""
    try:
        with interruptible():
            app()
    except FlAppError as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(2 if isinstance(error, OptionError) else 1)
    except Interrupted as error:
        sys.exit(128 + error.signal_number)
