"""Runs processes side by side, as many at once as the machine carries, and ends them all if it is stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from fl_app.options.app_files import own_app
from fl_app.runs.documents import ENDED
from fl_app.runs.progress import Progress, RunReader, summarise
from fl_app.simulation.cells import Grid, Planned
from fl_app.simulation.choices import to_toml

_POLL_SECONDS = 0.5
_STOP_SECONDS = 90.0  # a stopped run ends a dozen processes, writes its state, and removes its folder
_GB_OF_PROCESS = 0.6  # private memory of a process that has imported torch and trains a small network
_OTHER_PROCESSES = 3  # of a run, beside its nodes' workers: SuperLink, ServerApp, `fl-app run`

# `fl-app run`, which Linux asks to end if this process is killed. The arguments follow.
_RUN = """
import ctypes, os, signal, sys
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl is not None:
    prctl(1, signal.SIGTERM)
from fl_app.cli import main
main()
"""


@dataclass(frozen=True)
class Job:
    """A run that a process makes.

    Attributes:
        name: of the run.
        command: that starts the process.
        folder: the run folder.
        log: takes what the process prints.
        environment: variables that are added to this process's.
    """

    name: str
    command: Sequence[str]
    folder: Path
    log: Path
    environment: Mapping[str, str]


@dataclass
class Running:
    """A process at work, since when, and what its run folder says."""

    job: Job
    process: subprocess.Popen[bytes]
    started: float
    reader: RunReader

    def progress(self) -> Progress:
        """Return how far its run is."""
        return summarise(self.reader.read_status(), self.reader.read_rounds())


@dataclass(frozen=True)
class Ended:
    """A process that has ended.

    Attributes:
        job: what it was for.
        exit_status: its own; negative: the signal that killed it.
        seconds: that it took.
        reason: why it failed; empty if it did not.
        is_degraded: the run finished, but some site missed some of it.
    """

    job: Job
    exit_status: int
    seconds: float
    reason: str = ""
    is_degraded: bool = False


Show = Callable[[Sequence[Running], Sequence[Ended]], None]


def job_of(grid: Grid, planned: Planned, gpu_share: float | None) -> Job:
    """Return the `fl-app run` of a cell: all its options are in the command."""
    command = [sys.executable, "-c", _RUN, "run", "--nodes", str(grid.document.nodes), "--out", str(grid.folder)]
    command += ["--app", str(grid.app)] if grid.app != own_app().resolve() else []
    command += ["--gpu-share", str(gpu_share)] if gpu_share is not None else []
    for line in to_toml(planned.overrides).splitlines():
        name, _, value = line.partition(" = ")
        command += ["--set", f"{name[1:-1]}={value}"]
    name = planned.cell.name
    return Job(name, command, grid.folder / name, grid.folder / f"{name}.log", {})


def choose_at_once(num_nodes: int, gpu_share: float, wanted: int | None = None) -> int:
    """Return how many runs go on at once: the wanted number, else what cores, memory and GPU carry, at least one.

    Each run has a worker for each node, at most one on a core. Runs that share a GPU could exceed its memory.

    Args:
        num_nodes: simulated nodes of each run.
        gpu_share: part of a GPU that each node gets.
        wanted: number of runs; None: choose.
    """
    if wanted is not None:
        return wanted
    if gpu_share:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(num_nodes, cores)
    gigabytes = psutil.virtual_memory().available / 2**30
    by_memory = int(gigabytes / ((workers + _OTHER_PROCESSES) * _GB_OF_PROCESS))
    return max(1, min(cores // workers, by_memory))


def run_jobs(jobs: Sequence[Job], at_once: int, show: Show) -> list[Ended]:
    """Run all jobs, some at a time and in order; one that fails does not stop the others.

    Whatever ends this call early, such as Ctrl-C, ends its processes first.

    Args:
        jobs: in this order.
        at_once: processes at a time.
        show: is told, twice a second, which run and which have ended.

    Returns:
        How each ended, in the order of the ends.
    """
    waiting, running, ended = list(jobs), list[Running](), list[Ended]()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running.append(_start(waiting.pop(0)))
            show(running, ended)
            time.sleep(_POLL_SECONDS)
            over = [one for one in running if one.process.poll() is not None]
            running = [one for one in running if one not in over]
            ended += [_judge(one) for one in over]
        show(running, ended)
    finally:
        stop(running)
    return ended


def stop(running: Sequence[Running]) -> None:
    """Ask all processes to end, as Ctrl-C does, and wait for them; kill one that does not end."""
    for one in running:
        with suppress(ProcessLookupError):
            one.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    for one in running:
        try:
            one.process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()


def _start(job: Job) -> Running:
    """Start a process in a session of its own, so that Ctrl-C reaches this process alone."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as output:
        process = subprocess.Popen(
            job.command,
            env={**os.environ, **job.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Running(job, process, time.time(), RunReader(job.folder, since=time.time()))


def _judge(one: Running) -> Ended:
    status, code = one.reader.read_status(), one.process.returncode
    seconds = time.time() - one.started
    if code == 0:
        return Ended(one.job, code, seconds, is_degraded=status is not None and status.state == "degraded")
    reason = (status.reason or "") if status is not None and status.state in ENDED else ""
    return Ended(
        one.job, code, seconds, f"{(reason or _last_words(one.job.log)).rstrip('.')}. Its output: {one.job.log}"
    )


def _last_words(log: Path) -> str:
    """Return the last error of a log, else its last line."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("Error: ")]
    return (errors or lines or ["it printed nothing"])[-1].removeprefix("Error: ")
