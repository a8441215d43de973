"""The command `fl-app run`: one simulated federation on this machine, from options to pictures."""

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fl_app.errors import FlAppError
from fl_app.simulation.follow import GPU_SHARE, prepare, run_to_end
from fl_app.simulation.outcome import Outcome, describe_comparison
from fl_app.simulation.view import format_time


def run(
    recipe: Annotated[str | None, typer.Argument(help="A name in recipes/, or a TOML file of run options.")] = None,
    nodes: Annotated[int, typer.Option(help="Simulated nodes.", min=1)] = 5,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override an option; see `fl-app options`.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where run folders are made; default: ~/fl-app/runs.")] = None,
    gpu_share: Annotated[
        float | None, typer.Option(help=f"Part of a GPU for each node; default: {GPU_SHARE} if there is one.", min=0)
    ] = None,
    app: Annotated[
        Path | None, typer.Option(help="Folder of the Flower app; default: this one if it is one, else fl-app's own.")
    ] = None,
) -> None:
    """Simulate a federation on this machine and train its model."""
    settings = settings or []
    prepared = prepare(recipe, settings, nodes, out, gpu_share, app)
    begun = time.time()
    if prepared.plan.folder is not None:
        typer.echo(f"run folder: {prepared.plan.folder}")
    try:
        outcome, log = run_to_end(prepared, Console(highlight=False))
    except BaseException as error:
        if not isinstance(error, FlAppError):
            _say_how_to_resume(prepared.reader.folder, recipe, nodes, settings, out, app, gpu_share)
        raise
    report(outcome, log, time.time() - begun)
    raise typer.Exit(outcome.exit_status)


def report(outcome: Outcome, log: str, seconds: float) -> None:
    """Print how a run ended and, last of all, where its results lie."""
    if outcome.state == "failed":
        typer.echo(f"{log}\n", err=True)
        typer.secho(f"The run failed: {outcome.reason}", fg="red", err=True)
    elif outcome.state == "degraded":
        names = ", ".join(outcome.sites) or "not named"
        typer.secho(f"Warning: the run is degraded, sites with trouble: {names}", fg="yellow", err=True)
    for site, reason in outcome.sites.items():
        typer.echo(f"  {site}: {reason}", err=True)
    typer.echo(f"outcome: {outcome.state}")
    typer.echo(f"time: {format_time(seconds)}")
    if outcome.folder is not None:
        for line in describe_comparison(outcome.folder):
            typer.echo(line)
    typer.echo(f"run folder: {outcome.folder or 'none'}")
    typer.echo(f"gallery: {outcome.gallery or 'none'}")


def _say_how_to_resume(
    folder: Path | None,
    recipe: str | None,
    nodes: int,
    settings: list[str],
    out: Path | None,
    app: Path | None,
    gpu_share: float | None,
) -> None:
    if folder is None:
        typer.echo("Stopped before the run had a folder: there is nothing to resume.", err=True)
        return
    kept = [one for one in settings if one.partition("=")[0].strip() not in ("run-name", "resume")]
    command = ["fl-app", "run", *([recipe] if recipe else []), "--nodes", str(nodes)]
    for setting in [*kept, f"resume={folder}"]:
        command += ["--set", setting]
    command += [*(["--out", str(out)] if out else []), *(["--app", str(app)] if app else [])]
    command += ["--gpu-share", str(gpu_share)] if gpu_share is not None else []
    typer.echo(f"Stopped. Go on with:\n  {shlex.join(command)}", err=True)
