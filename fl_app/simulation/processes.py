"""The processes of one run, known by a random token in their environment; ended wherever they hide."""

import os
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

import psutil

TOKEN_VARIABLE = "FL_APP_RUN_TOKEN"  # the name of a variable, no secret

# Ray's workers rename themselves, and the new name would overwrite the environment that holds the token.
KEEP_ENVIRONMENT = {"SPT_NOENV": "1"}


def find_processes(token: str) -> list[psutil.Process]:
    """Find the processes whose environment holds the token, and all their children."""
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        try:
            if process.environ().get(TOKEN_VARIABLE) == token:
                found |= {process, *process.children(recursive=True)}
        except psutil.Error:  # ended meanwhile, or another user's
            continue
    return [process for process in found if process.pid != os.getpid() and _is_alive(process)]


def end_processes(token: str, grace_seconds: float = 5.0) -> None:
    """End every process of a run: ask, wait, kill, until none is left.

    Args:
        token: what marks them as ours.
        grace_seconds: time to end by themselves before they are killed.
    """
    for _ in range(5):  # a process may have started another one after the look around
        processes = find_processes(token)
        if not processes:
            return
        for process in processes:
            _signal(process, "terminate")
        _, stubborn = psutil.wait_procs(processes, timeout=grace_seconds)
        for process in stubborn:
            _signal(process, "kill")
        psutil.wait_procs(stubborn, timeout=grace_seconds)


def start_guard(token: str, folder: Path) -> Popen[bytes]:
    """Start the process that ends the run's processes and removes its folder, should this one be killed.

    It works as soon as its standard input is closed, which the operating system does for a dead process.
    """
    command = [sys.executable, "-m", "fl_app.simulation.guard", token, str(folder)]
    return Popen(command, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(process: psutil.Process, action: str) -> None:
    try:
        getattr(process, action)()
    except psutil.NoSuchProcess:
        return
