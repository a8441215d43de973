"""The command `fl-app repeat`: the runs of a grid, then their comparison."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fl_app.cli.board import open_board
from fl_app.cli.compare import print_comparison
from fl_app.cli.words import (
    App,
    AsJson,
    Baseline,
    GpuShare,
    Nodes,
    Quiet,
    Recipe,
    Settings,
    Voice,
    check_folder,
    open_console,
)
from fl_app.errors import FlAppError, OptionError, RunFolderError, did_you_mean
from fl_app.grids.document import describe_setting, write_grid
from fl_app.simulation.app import find_app
from fl_app.simulation.cells import Grid, check_cells, plan_grid
from fl_app.simulation.follow import choose_gpu_share
from fl_app.simulation.processes import Interrupted
from fl_app.simulation.repeat import Ended, choose_at_once, job_of, run_jobs


def repeat(
    recipe: Recipe = None,
    seeds: Annotated[int, typer.Option(help="Runs of each setting.", min=1)] = 3,
    first_seed: Annotated[int, typer.Option(help="The seed of the first of them.", min=0)] = 0,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary",
            metavar="KEY=A,B,C",
            help='Vary an option; given several times: all combinations. Values with commas: KEY=["a,b","c"].',
        ),
    ] = None,
    nodes: Nodes = 5,
    settings: Settings = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The grid's folder; default: one in ~/fl-app/grids named by the options."),
    ] = None,
    at_once: Annotated[
        int | None, typer.Option(help="Runs at the same time; default: what cores and memory carry.", min=1)
    ] = None,
    gpu_share: GpuShare = None,
    baseline: Baseline = None,
    app: App = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run a recipe with several seeds and settings, and compare the runs.

    Given again, the same command goes on where it stopped: finished runs are kept, others are resumed. Exit status: 0
    if every run is completed or degraded, 1 if one failed, 2 for wrong input, found before the first run starts.
    """
    voice, console = Voice(quiet, as_json), open_console(stderr=as_json, quiet=quiet)
    if out is not None:
        check_folder(out.expanduser())
    wanted = range(first_seed, first_seed + seeds)
    grid = plan_grid(find_app(app), recipe, settings or [], vary or [], wanted, nodes, out)
    share = choose_gpu_share(gpu_share)
    _check_baseline(grid, baseline)
    check_cells(grid)
    again = _again(grid, recipe, settings or [], vary or [], seeds, first_seed, at_once, gpu_share, baseline, app)
    try:
        grid.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{grid.folder} cannot be written: {error.strerror}. Choose another --out.") from None
    from fl_app.runs.folder import RunFolder  # imports numpy

    lock = RunFolder(grid.folder)
    lock.lock()
    try:
        write_grid(grid.folder, grid.document)
        ended = _run(grid, choose_at_once(nodes, share, at_once), gpu_share, console)
    except Interrupted:
        voice.warn(f"Stopped. Go on, from any folder, with:\n  {again}")
        voice.answer({"state": "stopped", "folder": grid.folder, "resume": again})
        raise
    finally:
        lock.unlock()
    failed = {one.job.name: one.reason for one in ended if one.exit_status}
    failed |= {one.cell.name: one.problem for one in grid.cells if one.problem}
    _report(grid, failed, baseline, voice, console, again)
    raise typer.Exit(1 if failed else 0)


def _run(grid: Grid, at_once: int, gpu_share: float | None, console: Console) -> list[Ended]:
    jobs = [job_of(grid, one, gpu_share) for one in grid.waiting]
    done = sum(one.state == "finished" for one in grid.cells)
    together = f", {min(at_once, len(jobs))} at once" if len(jobs) > 1 else ""
    console.print(f"grid: {grid.folder}", soft_wrap=True, markup=False)
    console.print(f"{done} of {len(grid.cells)} runs are finished already; {len(jobs)} to do{together}.")
    for one in grid.cells:
        if one.problem:
            console.print(f"{one.cell.name} FAILED: {one.problem}", soft_wrap=True, markup=False)
    with open_board(console, len(grid.cells), done) as show:
        return run_jobs(jobs, at_once, show)


def _report(
    grid: Grid, failed: dict[str, str], baseline: str | None, voice: Voice, console: Console, again: str
) -> None:
    """Compare the runs that are there, write tables and pictures, and say which runs failed."""
    from fl_app.grids.comparison import compare_runs

    if failed:
        voice.complain(f"{len(failed)} of {len(grid.cells)} runs failed: {', '.join(failed)}")
        for name, reason in failed.items() if voice.quiet else ():  # else its line has said so
            voice.complain(f"  {name}: {reason}")
        voice.warn(f"Run them again, from any folder, with:\n  {again}")
    document: dict[str, object] = {"folder": grid.folder, "failed": failed, "comparison": None, "files": []}
    try:
        comparison = compare_runs([grid.folder], grid.folder)
        if baseline in comparison.settings:  # else all its runs failed
            comparison = compare_runs([grid.folder], grid.folder, baseline)
        elif baseline is not None:
            voice.warn(f"No run of '{baseline}' is finished: differences are taken to '{comparison.baseline}'.")
    except FlAppError as error:
        voice.complain(f"Nothing is compared: {error}")
    else:
        files = comparison.write(grid.folder)
        print_comparison(comparison, files, console)
        document |= {"comparison": comparison.to_json(), "files": files}
    voice.answer(document)


def _check_baseline(grid: Grid, baseline: str | None) -> None:
    """Refuse, before any run starts, a baseline that no setting will be called."""
    labels = list(dict.fromkeys(describe_setting(cell.setting) for cell in grid.document.cells if cell.setting))
    if baseline is not None and baseline not in labels:
        known = "; ".join(labels) or "there is one only, without --vary"
        raise OptionError(
            f"--baseline must be one of the settings, {known}, got '{baseline}'.{did_you_mean(baseline, labels)}"
        )


def _again(
    grid: Grid,
    recipe: str | None,
    settings: Sequence[str],
    vary: Sequence[str],
    seeds: int,
    first_seed: int,
    at_once: int | None,
    gpu_share: float | None,
    baseline: str | None,
    app: Path | None,
) -> str:
    """Return the command that goes on with the grid, from whatever folder it is typed in."""
    command = ["fl-app", "repeat"]
    if recipe is not None:
        is_named = (grid.app / "recipes" / f"{recipe}.toml").is_file()
        command.append(recipe if is_named else str(Path(recipe).expanduser().absolute()))
    command += ["--seeds", str(seeds), *(["--first-seed", str(first_seed)] if first_seed else [])]
    for one in vary:
        command += ["--vary", one]
    command += ["--nodes", str(grid.document.nodes)]
    kept = [one for one in settings if one.partition("=")[0].strip() != "data.directory"]
    directory = grid.document.options.get("data.directory")
    for one in [*kept, *([f"data.directory={directory}"] if directory else [])]:
        command += ["--set", one]
    command += ["--out", str(grid.folder)]
    for word, value in (("--at-once", at_once), ("--gpu-share", gpu_share), ("--baseline", baseline)):
        command += [word, str(value)] if value is not None else []
    return shlex.join([*command, *(["--app", str(grid.app)] if app else [])])
