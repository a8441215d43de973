"""The command `fl-app run`: one simulated federation on this machine, from options to pictures."""

import os
import shlex
import shutil
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fl_app.app_files import find_app
from fl_app.cli.choices import Plan, plan_run, to_toml
from fl_app.cli.outcome import Outcome, describe_comparison, judge
from fl_app.cli.overview import is_held
from fl_app.cli.preflight import check_before_start
from fl_app.cli.progress import Progress, RunFolder, summarise
from fl_app.cli.signals import Interrupted
from fl_app.cli.simulation import Simulation, read_tail, simulate
from fl_app.cli.view import View, format_time, open_view
from fl_app.errors import FlAppError, OptionError, RunFolderError

_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
_GPU_SHARE = 0.2
_POLL_SECONDS = 0.3


def run(
    recipe: Annotated[str | None, typer.Argument(help="A name in recipes/, or a TOML file of run options.")] = None,
    nodes: Annotated[int, typer.Option(help="Simulated nodes.", min=1)] = 5,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override an option; see `fl-app options`.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where run folders are made; default: ~/fl-app/runs.")] = None,
    gpu_share: Annotated[
        float | None, typer.Option(help=f"Part of a GPU for each node; default: {_GPU_SHARE} if there is one.", min=0)
    ] = None,
    app: Annotated[
        Path | None, typer.Option(help="Folder of the Flower app; default: this one if it is one, else fl-app's own.")
    ] = None,
) -> None:
    """Simulate a federation on this machine and train its model."""
    settings = settings or []
    app_folder = find_app(app)
    plan = plan_run(app_folder, recipe, settings, out, nodes)
    check_before_start(plan.config, nodes, plan.output, plan.folder if plan.config.resume else None)
    share = choose_gpu_share(gpu_share)
    console = Console(highlight=False)
    begun = time.time()
    folder = RunFolder(plan.folder, plan.output, since=begun)
    if plan.folder is not None:
        typer.echo(f"run folder: {plan.folder}")
    try:
        outcome, log = _follow(app_folder, plan, nodes, share, folder, console)
    except BaseException as error:  # Ctrl-C; or `| head` reads no more, which rich turns into SystemExit
        write_end(folder.folder, "stopped; it can be resumed")
        if not isinstance(error, FlAppError):
            _say_how_to_resume(folder.folder, recipe, nodes, settings, out, app, gpu_share)
        raise
    if outcome.state == "failed":
        write_end(folder.folder, f"{outcome.reason}; it can be resumed")
    report(outcome, log, time.time() - begun)
    raise typer.Exit(outcome.exit_status)


def choose_gpu_share(wanted: float | None) -> float:
    """Choose the part of a GPU that each node gets: what is wanted, else some if there is a GPU.

    Raises:
        OptionError: if a GPU is wanted and there is none.
    """
    has_gpu = False
    if wanted != 0 and any(os.path.exists(device) for device in _GPU_DEVICES):
        import torch  # takes seconds, so only where a GPU may be

        has_gpu = torch.cuda.is_available()
    if wanted and not has_gpu:
        raise OptionError(f"--gpu-share must be 0, got {wanted}: PyTorch finds no GPU on this machine.")
    return (_GPU_SHARE if wanted is None else wanted) if has_gpu else 0.0


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


def _follow(
    app: Path, plan: Plan, nodes: int, gpu_share: float, folder: RunFolder, console: Console
) -> tuple[Outcome, str]:
    """Run to the end and judge; returns the last lines of the log as well."""
    with open_view(console) as view:
        view.show(Progress("starting"), ())
        with simulate(app, to_toml(plan.overrides), nodes, gpu_share) as simulation:
            try:
                return _wait(simulation, folder, view, console, plan.folder), read_tail(simulation.log)
            except Interrupted:
                view.show(Progress("stopping"), ())
                raise
            finally:
                keep_log(simulation.log, folder.folder)


def _wait(simulation: Simulation, folder: RunFolder, view: View, console: Console, told: Path | None) -> Outcome:
    """Show progress until the run has ended, then judge it; a folder that the server chose is told when it is known."""
    is_running = True
    while is_running:
        is_running = simulation.is_running()  # asked first, so that the last look sees the last files
        rounds, status = folder.read_rounds(), folder.read_status()
        if folder.folder is not None and folder.folder != told:
            told = folder.folder
            console.print(f"run folder: {told}", soft_wrap=True, markup=False)
        view.show(summarise(status, rounds), tuple(rounds))
        time.sleep(_POLL_SECONDS)
    return judge(simulation.read_status(), status, rounds, folder.folder)


def keep_log(log: Path, folder: Path | None) -> None:
    """Add what Flower printed to the run folder: a resumed run has some already.

    The server's own run.log is there beside it. A full disk costs the log, and not the verdict.
    """
    if folder is None:
        return
    try:
        with (folder / "flower.log").open("ab") as target, log.open("rb") as source:
            shutil.copyfileobj(source, target)
    except OSError as error:
        typer.secho(f"The log cannot be kept in {folder / 'flower.log'}: {error.strerror}.", fg="red", err=True)


def write_end(folder: Path | None, reason: str) -> None:
    """Write into status.json why the run ended, if the server was not there to do it any more.

    A folder that a server holds is another run's, which goes on.
    """
    if folder is not None and (folder / "status.json").is_file() and not is_held(folder):
        from fl_app.artifacts import RunFolder, read_status
        from fl_app.writing import write_json

        status = read_status(RunFolder(folder))
        if status.get("state") not in ("completed", "degraded", "failed"):
            try:
                write_json(folder / "status.json", {**status, "state": "failed", "reason": reason})
            except RunFolderError as error:
                typer.secho(str(error), fg="red", err=True)


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
