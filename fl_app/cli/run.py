"""The command `fl-app run`: one simulated federation on this machine, from options to pictures."""

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from fl_app.cli.words import App, AsJson, GpuShare, Nodes, Quiet, Recipe, Settings, Voice, open_console
from fl_app.errors import FlAppError, RunFolderError
from fl_app.files import to_json
from fl_app.options.app_files import own_app
from fl_app.runs.audit import Audit, describe_audit, read_audit
from fl_app.runs.overview import REPORT
from fl_app.runs.quality import describe_quality, quality_rows
from fl_app.runs.results import read_comparison, read_figure
from fl_app.runs.view import format_time
from fl_app.simulation.follow import Prepared, judge_ended, prepare, run_to_end
from fl_app.simulation.outcome import Outcome, describe_comparison
from fl_app.simulation.processes import Interrupted

_TOLD_APART = ("run-name", "resume", "output-dir", "data.directory")  # in the command that goes on with a run


def run(
    recipe: Recipe = None,
    nodes: Nodes = 5,
    settings: Settings = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where the run's folder is made; default: ~/fl-app/runs."),
    ] = None,
    gpu_share: GpuShare = None,
    app: App = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Simulate a federation on this machine and train its model."""
    settings, voice = settings or [], Voice(quiet, as_json)
    prepared = prepare(recipe, settings, nodes, out, gpu_share, app)
    begun = time.time()
    try:
        outcome, log = run_to_end(prepared, open_console(stderr=as_json, quiet=quiet))
    except BaseException as error:
        if not isinstance(error, FlAppError):
            _say_how_to_resume(voice, prepared, recipe, settings, app, gpu_share, isinstance(error, Interrupted))
        raise
    report(outcome, log, time.time() - begun, voice)
    raise typer.Exit(outcome.exit_status)


def report(outcome: Outcome, log: str, seconds: float, voice: Voice | None = None) -> None:
    """Print how a run ended and, last of all, where its results lie."""
    voice = voice or Voice()
    if outcome.state == "failed":
        typer.echo(f"{log}\n", err=True)
        voice.complain(f"The run failed: {outcome.reason}")
    elif outcome.state == "degraded":
        trouble = f", sites with trouble: {', '.join(outcome.sites)}" if outcome.sites else f": {outcome.reason}"
        voice.warn(f"Warning: the run is degraded{trouble}")
    for site, reason in outcome.sites.items():
        (voice.complain if outcome.state == "failed" else voice.warn)(f"  {site}: {reason}")
    voice.say(f"outcome: {outcome.state}")
    voice.say(f"time: {format_time(seconds)}")
    for line in [*describe_quality(outcome.folder), *describe_comparison(outcome.folder)] if outcome.folder else ():
        voice.say(line)
    audit = find_audit(outcome.folder, voice) if outcome.folder else None
    page = outcome.folder / REPORT if outcome.folder else None
    page = page if page and page.is_file() else None
    if page:
        voice.say(f"report: {page}")
    voice.say(f"run folder: {outcome.folder or 'none'}")
    voice.say(f"gallery: {outcome.gallery or 'none'}")
    rows = read_comparison(outcome.folder) if outcome.folder else []
    voice.answer(
        {
            "state": outcome.state,
            "reason": outcome.reason,
            "sites": outcome.sites,
            "folder": outcome.folder,
            "gallery": outcome.gallery,
            "report": page,
            "seconds": seconds,
            "audit": None if audit is None else to_json(audit),
            "quality": quality_rows(outcome.folder) if outcome.folder else [],
            "comparison": [{name: read_figure(value) for name, value in row.items()} for row in rows],
        }
    )


def find_audit(folder: Path, voice: Voice) -> Audit | None:
    """Return the audit of a run, and print its line; None if there was none, or its file is damaged."""
    try:
        audit = read_audit(folder)
    except RunFolderError as error:
        voice.warn(str(error))
        return None
    if audit is not None:
        voice.say(describe_audit(audit))
    return audit


def resume_command(
    prepared: Prepared, recipe: str | None, settings: list[str], app: Path | None, gpu_share: float | None
) -> str:
    """Return the command that goes on with a run that has a folder, from whatever folder it is typed in."""
    plan = prepared.plan
    is_named = recipe is None or (prepared.app / "recipes" / f"{recipe}.toml").is_file()
    command = ["fl-app", "run"]
    if recipe is not None:
        command.append(recipe if is_named else str(Path(recipe).expanduser().absolute()))
    command += ["--nodes", str(prepared.num_nodes)]
    kept = [setting for setting in settings if setting.partition("=")[0].strip() not in _TOLD_APART]
    kept += [f"data.directory={plan.config.data.directory}"] if plan.config.data.directory else []
    for setting in [*kept, f"resume={prepared.reader.folder}"]:
        command += ["--set", setting]
    command += ["--out", str(plan.output)]
    command += ["--app", str(prepared.app)] if app or prepared.app != own_app().resolve() else []
    return shlex.join([*command, *(["--gpu-share", str(gpu_share)] if gpu_share is not None else [])])


def _say_how_to_resume(
    voice: Voice,
    prepared: Prepared,
    recipe: str | None,
    settings: list[str],
    app: Path | None,
    gpu_share: float | None,
    is_stopped: bool,
) -> None:
    command, ended = None, judge_ended(prepared.reader)
    if ended is not None and ended.state != "failed":  # just before stdout was closed
        voice.warn(f"The run has ended: {ended.state}. Its folder: {ended.folder}")
    elif prepared.reader.folder is None:
        voice.warn("Stopped before the run had a folder: there is nothing to resume.")
    else:
        command = resume_command(prepared, recipe, settings, app, gpu_share)
        voice.warn(f"Stopped. Go on, from any folder, with:\n  {command}")
    if is_stopped:  # else stdout is closed, as under `| head`
        voice.answer({"state": "stopped", "folder": prepared.reader.folder, "resume": command})
