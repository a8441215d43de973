"""The command `fl-app`: its subcommands, and the exit status of errors."""

import re
import sys
from importlib.metadata import version
from typing import Annotated

import click
import typer

from fl_app.cli.bundle_logs import bundle_logs
from fl_app.cli.cache import cache
from fl_app.cli.code_hash import show_code_hash
from fl_app.cli.compare import compare
from fl_app.cli.copies import copies
from fl_app.cli.credentials import certificates, keys
from fl_app.cli.doctor import doctor
from fl_app.cli.examples import example_images
from fl_app.cli.options import show_options
from fl_app.cli.predict import predict
from fl_app.cli.prototypes import prototypes
from fl_app.cli.repeat import repeat
from fl_app.cli.report import report
from fl_app.cli.run import run
from fl_app.cli.runs import list_runs
from fl_app.cli.sample import sample
from fl_app.cli.sent import sent
from fl_app.cli.sites import sites
from fl_app.cli.status import status
from fl_app.cli.supernode import supernode
from fl_app.cli.write_app import write
from fl_app.errors import FlAppError, OptionError
from fl_app.simulation.processes import Interrupted, interruptible

_RANGES = (click.IntRange, click.FloatRange)

app = typer.Typer(
    name="fl-app",
    no_args_is_help=True,
    suggest_commands=False,  # click does so itself
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Hospitals that may not share images train a diffusion model and a classifier together.",
)
app.command("run")(run)
app.command("repeat")(repeat)
app.command("compare")(compare)
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
app.command("sent")(sent)
app.command("copies")(copies)
app.command("code-hash")(show_code_hash)
app.command("status")(status)
app.command("runs")(list_runs)
app.command("report")(report)
app.command("bundle-logs")(bundle_logs)
app.command("options")(show_options)
app.command("certificates")(certificates)
app.command("keys")(keys)
app.command("sites")(sites)
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
    """Run one command: status 2 for wrong input, 1 for what else can go wrong, 128 + n after signal n."""
    try:
        with interruptible():
            status = app(prog_name="fl-app", standalone_mode=False)
        sys.exit(status)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        typer.secho(f"Error: {describe_usage_error(error)}", fg="red", err=True)
        sys.exit(error.exit_code)
    except FlAppError as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(2 if isinstance(error, OptionError) else 1)
    except Interrupted as error:
        sys.exit(128 + error.signal_number)


def describe_usage_error(error: click.ClickException) -> str:
    """Return what was wrong with the words of a command, what was expected, and where the command's help is."""
    text = error.format_message().strip()
    if isinstance(error, click.BadParameter) and error.param and isinstance(error.param.type, _RANGES):
        found = re.match(r"(.*) is not (a valid|in the range) ", error.message)
        if found:
            name = max(error.param.opts, key=len)
            text = f"{name} must be {_describe_range(error.param.type)}, got {found[1]}."
    text = text if text.endswith((".", "?")) else f"{text}."
    context = getattr(error, "ctx", None)
    return f"{text} See `{context.command_path} --help`." if context else text


def _describe_range(numbers: click.IntRange | click.FloatRange) -> str:
    kind = "a whole number" if isinstance(numbers, click.IntRange) else "a number"
    if numbers.max is None:
        return f"{kind} of at least {numbers.min:g}"
    return (
        f"{kind} of at most {numbers.max:g}"
        if numbers.min is None
        else f"{kind} from {numbers.min:g} to {numbers.max:g}"
    )
