"""The command `fl-app status`: sites, rounds, who is late or failed, and the last figures of a run."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fl_app.cli.words import AsJson, Runs, open_console
from fl_app.errors import FlAppError
from fl_app.runs.audit import describe_audit
from fl_app.runs.documents import ENDED, ENDED_WELL, FAULTS
from fl_app.runs.overview import REPORT, Overview, age, runs_folder
from fl_app.runs.quality import describe_quality
from fl_app.runs.results import COMPARISON, describe_results
from fl_app.runs.view import describe_nodes, describe_phase, format_time, is_screen

_SHOWN_RUNS = 3
_TIMEOUT_SECONDS = 60.0

Listing = Sequence[Mapping[str, Any]]


def status(
    run: Annotated[Path | None, typer.Argument(help="A run folder, or its name; default: the newest.")] = None,
    runs: Runs = None,
    connection: Annotated[
        str | None, typer.Option(help="Also ask this SuperLink: a name in Flower's config.toml.")
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", "-w", help="Wait for the run and refresh until it has ended; Ctrl-C stops watching, not the run."
        ),
    ] = False,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Show how a run stands: live, finished or broken.

    Exit status: 0 if it could be read, whatever became of the run; 2 if there is no such run. With --watch that of
    `fl-app run`: 0 if the run was completed or degraded, 1 if it failed, or if no server works on it any more.
    """
    from fl_app.api.run import open_run

    if watch:
        from fl_app.runs.watching import wait_for_run, watch_run

        console = open_console(stderr=as_json)
        overview = watch_run(wait_for_run(run, runs_folder(runs or out), console), console, picture)
    else:
        overview = open_run(run, runs or out).status()
    flower = _ask(connection) if connection else {}
    if as_json:
        typer.echo(json.dumps(overview.to_json() | ({"flower": flower} if connection else {}), indent=1))
    else:
        console = open_console()
        if not (watch and is_screen(console)):  # there the last picture stays
            for part in picture(overview).renderables:
                console.print(part, soft_wrap=isinstance(part, Text))
        for line in describe_flower(flower, overview.flower_runs):
            console.print(Text(line), soft_wrap=True)
    if watch:
        raise typer.Exit(0 if overview.state in ENDED_WELL else 1)


def picture(overview: Overview) -> Group:
    """Return all that is shown of a run."""
    reasons = [f"  {site}: {counts.reason}" for site, counts in overview.sites.items() if counts.reason]
    lines = [Text(line) for line in describe(overview)]
    return Group(*lines, *([make_table(overview)] if overview.sites else []), *map(Text, reasons))


def describe(overview: Overview) -> list[str]:
    """Say in lines what holds for the whole run."""
    progress = overview.progress
    since = "" if overview.seconds_since is None else f" (written {age(overview.seconds_since)} ago)"
    state = f"{'stopped while ' if overview.is_stopped else ''}{describe_phase(progress)}"
    lines = [f"run folder: {overview.folder}", f"state: {state}{since}"]
    lines += [f"problem: {problem}" for problem in overview.problems]
    if progress.num_rounds:
        failed = f", {overview.num_rounds_failed} failed so far" if overview.num_rounds_failed else ""
        seconds = None if overview.is_alive is False else progress.seconds_left
        left = "" if seconds is None else f", about {format_time(seconds)} left"
        lines.append(f"round: {progress.round} of {progress.num_rounds} of {progress.task}{failed}{left}")
    if overview.described:
        lines.append(f"have said what they hold: {', '.join(overview.described)}")
    if progress.state == "running":
        lines.append(f"this round: {describe_nodes(progress)}")
        lines += [f"  {site}: {reason}" for site, reason in progress.failed.items()]
    if overview.audit is not None:
        lines.append(describe_audit(overview.audit))
    if overview.results and progress.state in ENDED:
        lines.append(f"results: {describe_results(overview.results)}")
        if (overview.folder / COMPARISON).is_file():
            lines.append(f"comparison: {overview.folder / COMPARISON}")
        if (overview.folder / REPORT).is_file():
            lines.append(f"report: {overview.folder / REPORT}")
        return lines + describe_quality(overview.folder)
    figures = [
        f"{name} {value:{form}}"
        for name, value, form in (
            ("training loss", progress.loss, ".4f"),
            ("validation loss", progress.validation_loss, ".4f"),
            ("images/s", progress.images_per_second, ".0f"),
        )
        if value is not None
    ]
    return lines + ([f"last figures: {', '.join(figures)}"] if figures else [])


def make_table(overview: Overview) -> Table:
    """Make the table of all sites: how often each did what, and its images. A narrow screen folds it.

    Replies without images have a column if any site has sent one.
    """
    outcomes = ("contributed", *(["empty"] if any(one.empty for one in overview.sites.values()) else []), *FAULTS)
    table = Table(box=None, pad_edge=False)
    for name in ("site", *outcomes, "train/held out/test"):
        table.add_column(name, overflow="fold")
    for site, counts in overview.sites.items():
        known = overview.images.get(site, {})
        images = [str(sum(known[part])) if part in known else "-" for part in ("train", "validation", "test")]
        table.add_row(Text(site), *(str(getattr(counts, name)) for name in outcomes), "/".join(images))
    return table


def describe_flower(flower: Mapping[str, Any], own_runs: Sequence[str] = ()) -> list[str]:
    """Say in lines what the SuperLink says of a run, or of its newest runs if it does not know that one.

    Args:
        flower: `runs` and `nodes` as Flower lists them, or `problem`; may be empty.
        own_runs: Flower's ids of the run.
    """
    if "problem" in flower:
        return [f"SuperLink: {flower['problem']}"]
    if not flower:
        return []
    states: dict[str, int] = {}
    for node in flower["nodes"]:
        states[str(node.get("status"))] = states.get(str(node.get("status")), 0) + 1
    nodes = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none registered"
    lines = [f"SuperLink: nodes: {nodes}"]
    runs = sorted(flower["runs"], key=lambda one: str(one.get("pending-at")), reverse=True)
    own = [one for one in runs if str(one.get("run-id")) in own_runs]
    for one in (own or runs)[:_SHOWN_RUNS]:
        details = one.get("status-details")
        why = f": {details}" if details not in (None, "", "N/A") else ""
        which = "this run" if own else "run"
        lines.append(f"SuperLink: {which} {one.get('run-id')} is {one.get('status')}{why}")
    return lines


def _ask(connection: str) -> dict[str, Any]:
    """Return nodes and runs, or the error; the folder's status is shown either way."""
    try:
        runs: Listing = ask_flower(connection, "ls")
        nodes: Listing = ask_flower(connection, "supernode", "list")
    except FlAppError as error:
        return {"problem": str(error)}
    return {"runs": runs, "nodes": nodes}


def ask_flower(connection: str, *command: str) -> list[dict[str, Any]]:
    """Return what `flwr <command> <connection> --format json` lists.

    Args:
        connection: a name in Flower's config.toml.
        command: `ls` for runs, `supernode list` for nodes.

    Raises:
        FlAppError: the connection does not exist, or the SuperLink does not answer.
    """
    program = str(Path(sys.executable).parent / "flwr")
    environment = os.environ | {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    try:
        answer = subprocess.run(
            [program, *command, connection, "--format", "json"],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )
        found = json.loads(answer.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise FlAppError(f"`flwr {' '.join(command)} {connection}` gave no answer ({type(error).__name__}).") from None
    if not found.get("success"):
        lines = str(found.get("error-message", "no reason given")).strip().splitlines()
        raise FlAppError(f"Flower's answer about '{connection}': {lines[-1]}")
    return list(found.get("runs") or found.get("nodes") or [])
