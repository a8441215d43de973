"""The command `fl-app runs`: all runs of a folder, the newest first, the damaged ones among them."""

import time

import typer
from rich.table import Table
from rich.text import Text

from fl_app.cli.words import AsJson, Runs, Voice, open_console
from fl_app.errors import OptionError
from fl_app.runs.overview import Overview, find_runs, find_strangers, look_at, runs_folder
from fl_app.runs.results import describe_results


def list_runs(runs: Runs = None, as_json: AsJson = False) -> None:
    """List the runs of a folder: name, state, round, tasks, start and result.

    Exit status: 0, whatever became of the runs; 2 if --runs names no folder.
    """
    folder = runs_folder(runs).absolute()
    if runs is not None and not folder.is_dir():
        raise OptionError(f"--runs must name a folder of runs, got {folder}, which is no folder.")
    now = time.time()
    found = [look_at(one, now) for one in find_runs(folder)]
    strangers = find_strangers(folder)
    if as_json:
        Voice(as_json=True).answer({"folder": folder, "runs": list(map(_document, found)), "no-runs": strangers})
        return
    if not found:
        typer.echo(f"There is no run in {folder}.")
    else:
        open_console().print(make_table(found))
    for one in found:
        for problem in one.problems:
            typer.echo(f"{one.folder.name}: {problem}")
    if strangers:
        names = ", ".join(one.name for one in strangers)
        typer.echo(f"No runs, as they hold neither run.json nor status.json: {names}")


def make_table(found: list[Overview]) -> Table:
    """Make the table of all runs; a narrow screen folds it."""
    table = Table(box=None, pad_edge=False)
    for name in ("name", "state", "round", "tasks", "started", "result"):
        table.add_column(name, overflow="fold")
    for one in found:
        progress = one.progress
        table.add_row(
            Text(one.folder.name),
            "stopped" if one.is_stopped else one.state,
            f"{progress.task} {progress.round}/{progress.num_rounds}" if progress.num_rounds else "",
            Text(", ".join(one.tasks)),
            Text((one.started or "")[:16].replace("T", " ")),
            describe_results(one.results),
        )
    return table


def _document(one: Overview) -> dict[str, object]:
    return {
        "name": one.folder.name,
        "folder": one.folder,
        "state": one.state,
        "is-alive": one.is_alive,
        "task": one.progress.task,
        "round": one.progress.round,
        "num-rounds": one.progress.num_rounds,
        "tasks": one.tasks,
        "started": one.started,
        "results": one.results,
        "problems": one.problems,
    }
