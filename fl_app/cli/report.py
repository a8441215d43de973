"""The command `fl-app report`: all that a run's folder holds, on one page for a browser."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from fl_app.cli.words import AsJson, Quiet, Runs, Voice, check_file
from fl_app.errors import OptionError


def report(
    run: Annotated[Path | None, typer.Argument(help="A run folder, or its name; default: the newest.")] = None,
    out: Annotated[Path | None, typer.Option(help="The HTML file; default: report.html in the run folder.")] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open the report in a browser.")] = False,
    runs: Runs = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write the report of a run, live, finished or broken: one HTML file without scripts that needs no network."""
    if out is not None:
        check_file(out)
    from fl_app.api.run import open_run

    found = open_run(run, runs)
    path = found.report(out)
    voice = Voice(quiet, as_json)
    voice.say(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    voice.answer({"run": found.folder, "report": path})
    if open_it and not webbrowser.open(path.as_uri()):
        raise OptionError(f"--open found no browser. Open {path} yourself.")
