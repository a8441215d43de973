"""Runs a simulation: checks it, follows it to its end, and judges it."""

import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from fl_app.errors import OptionError, RunFolderError
from fl_app.options.sections import OptionValue
from fl_app.runs.documents import ENDED
from fl_app.runs.overview import is_held
from fl_app.runs.progress import Progress, RunReader, summarise
from fl_app.runs.view import View, open_view
from fl_app.simulation.app import find_app
from fl_app.simulation.choices import Plan, check_before_start, plan_run, to_toml
from fl_app.simulation.claim import claim
from fl_app.simulation.flower import FlowerStatus, Simulation, read_tail, simulate
from fl_app.simulation.outcome import Outcome, judge
from fl_app.simulation.processes import Interrupted

GPU_SHARE = 0.2
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
_POLL_SECONDS = 0.3


@dataclass(frozen=True)
class Prepared:
    """A run that is checked and can start.

    Attributes:
        app: folder of the Flower app.
        plan: the run's options.
        num_nodes: simulated nodes.
        gpu_share: part of a GPU that each node gets; 0 for none.
        reader: of the run's folder, which may not exist yet.
    """

    app: Path
    plan: Plan
    num_nodes: int
    gpu_share: float
    reader: RunReader


def choose_gpu_share(wanted: float | None) -> float:
    """Return the part of a GPU for each node: the wanted one, by default some if there is a GPU.

    Raises:
        OptionError: a GPU is wanted and there is none.
    """
    has_gpu = False
    if wanted != 0 and any(os.path.exists(device) for device in _GPU_DEVICES):
        import torch  # takes seconds, so only where a GPU may be

        has_gpu = torch.cuda.is_available()
    if wanted and not has_gpu:
        raise OptionError(f"The GPU share must be 0, got {wanted}: PyTorch finds no GPU on this machine.")
    return (GPU_SHARE if wanted is None else wanted) if has_gpu else 0.0


def prepare(
    recipe: str | None,
    options: Iterable[str] | Mapping[str, OptionValue],
    num_nodes: int,
    output: Path | None,
    gpu_share: float | None,
    app: Path | None,
) -> Prepared:
    """Choose and check everything that a run needs: options, images, networks, output folder, GPU.

    Args:
        recipe: a name in the app's `recipes/`, or a TOML file.
        options: `key=value` each, or values by name; they override the recipe's.
        num_nodes: simulated nodes.
        output: where run folders are made; None: the option `output-dir`, else ~/fl-app/runs.
        gpu_share: part of a GPU that each node gets; None: some if there is a GPU.
        app: folder of the Flower app; None: the current one if it is an app, else fl-app's own.

    Raises:
        FlAppError: something would fail at every node, or the run could not start.
    """
    found = find_app(app)
    plan = plan_run(found, recipe, options, output, num_nodes)
    check_before_start(plan.config, num_nodes, plan.output, plan.folder if plan.config.resume else None)
    share = choose_gpu_share(gpu_share)
    return Prepared(found, plan, num_nodes, share, RunReader(plan.folder, since=time.time()))


def run_to_end(run: Prepared, console: Console) -> tuple[Outcome, str]:
    """Print the run folder, simulate the run, show its progress, and judge its end.

    If the server could not write the reason of the end into status.json, this does. A run that had ended when the
    interrupt came is judged as if there had been none.

    Returns:
        The verdict, and the last lines of what Flower printed.

    Raises:
        FlAppError: another run has the folder, which is then not touched; or Flower's SuperLink did not start.
    """
    plan = run.plan
    with claim(plan.folder, is_new=not plan.config.resume):
        for line in (plan.note, f"run folder: {plan.folder}"):
            if line:
                console.print(line, soft_wrap=True, markup=False)
        return _run_claimed(run, console)


def _run_claimed(run: Prepared, console: Console) -> tuple[Outcome, str]:
    try:
        outcome, log = _follow(run, console)
    except BaseException as error:  # Ctrl-C; or `| head` has closed the pipe, which rich turns into SystemExit
        ended = judge_ended(run.reader)
        if isinstance(error, Interrupted) and ended is not None and ended.state != "failed":
            return ended, ""  # it ended while Flower was being stopped; a failure there is the stop's
        write_end(run.reader.folder, "stopped; it can be resumed")
        raise
    if outcome.state == "failed":
        write_end(run.reader.folder, f"{outcome.reason}; it can be resumed")
    return outcome, log


def _follow(run: Prepared, console: Console) -> tuple[Outcome, str]:
    with open_view(console) as view:
        view.show(Progress("starting"), ())
        with simulate(run.app, to_toml(run.plan.overrides), run.num_nodes, run.gpu_share) as simulation:
            try:
                return _wait(simulation, run.reader, view), read_tail(simulation.log)
            except Interrupted:
                ended = judge_ended(run.reader)  # before the processes are ended, which fails a run
                if ended is not None:
                    return ended, read_tail(simulation.log)
                view.show(Progress("stopping"), ())
                raise
            finally:
                keep_log(simulation.log, run.reader.folder)


def _wait(simulation: Simulation, reader: RunReader, view: View) -> Outcome:
    """Show progress until the run ends, and judge it."""
    is_running = True
    while is_running:
        is_running = simulation.is_running()  # asked before the files are read, so that the last read is complete
        rounds, status = reader.read_rounds(), reader.read_status()
        view.show(summarise(status, rounds), tuple(rounds))
        time.sleep(_POLL_SECONDS)
    return judge(simulation.read_status(), status, rounds, reader.folder)


def judge_ended(reader: RunReader) -> Outcome | None:
    """Return the verdict on a run whose server has written its end into status.json; None if it has not."""
    rounds, status = reader.read_rounds(), reader.read_status()
    if status is None or status.state not in ENDED:
        return None
    return judge(FlowerStatus("finished:completed", ""), status, rounds, reader.folder)


def keep_log(log: Path, folder: Path | None) -> None:
    """Append Flower's output to `flower.log` in the run folder, beside the server's own run.log.

    A full disk loses the log, not the verdict.
    """
    if folder is None:
        return
    try:
        with (folder / "flower.log").open("ab") as target, log.open("rb") as source:
            shutil.copyfileobj(source, target)
    except OSError as error:
        print(f"The log cannot be kept in {folder / 'flower.log'}: {error.strerror}.", file=sys.stderr)


def write_end(folder: Path | None, reason: str) -> None:
    """Write into status.json why the run ended, if the server was killed before it could.

    A folder that is locked by a server belongs to another run, which goes on.
    """
    if folder is not None and (folder / "status.json").is_file() and not is_held(folder):
        from fl_app.files import to_json, write_json
        from fl_app.runs.folder import RunFolder, read_status

        status = read_status(RunFolder(folder))
        if status.state not in ENDED:
            try:
                write_json(folder / "status.json", to_json(replace(status, state="failed", reason=reason)))
            except RunFolderError as error:
                print(error, file=sys.stderr)
