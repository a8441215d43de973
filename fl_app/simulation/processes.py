"""The processes of one run, known by a random token in their environment; and the signals that end a program.

`python -m fl_app.simulation.processes TOKEN FOLDER` is the guard: it outlives a killed `fl-app run`, ends the run's
processes and removes its folder.
"""

import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from types import FrameType

import psutil

TOKEN_VARIABLE = "FL_APP_RUN_TOKEN"  # the name of a variable, no secret

# Ray's workers rename themselves, and the new name would overwrite the environment that holds the token.
KEEP_ENVIRONMENT = {"SPT_NOENV": "1"}

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def find_processes(token: str) -> list[psutil.Process]:
    """Find the processes whose environment holds the token, and all their children."""
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has just ended, or is another user's
            if process.environ().get(TOKEN_VARIABLE) == token:
                found |= {process, *process.children(recursive=True)}
    alive = []
    for process in found:
        with suppress(psutil.NoSuchProcess):
            if process.pid != os.getpid() and process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
    return alive


def end_processes(token: str, grace_seconds: float = 5.0) -> None:
    """End every process of a run: ask, wait, kill, until none is left.

    Args:
        token: of the run.
        grace_seconds: time to end by themselves before they are killed.
    """
    for _ in range(5):  # a process may have started another one after the search
        processes = find_processes(token)
        if not processes:
            return
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, stubborn = psutil.wait_procs(processes, timeout=grace_seconds)
        for process in stubborn:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(stubborn, timeout=grace_seconds)


def start_guard(token: str, folder: Path) -> Popen[bytes]:
    """Start the process that ends the run's processes and removes its folder if this process is killed.

    It starts to work when its standard input is closed, which the operating system does for a dead process.
    """
    command = [sys.executable, "-m", __name__, token, str(folder)]
    return Popen(command, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True)


class Interrupted(BaseException):
    """Someone asked the program to stop. Like KeyboardInterrupt, it is no Exception, so nothing handles it as an error.

    Attributes:
        signal_number: SIGINT, SIGTERM or SIGHUP.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted at the first signal in the block; later signals cannot disturb the clean-up.

    Signals reach the main thread only: in another thread this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def stop(signal_number: int, _frame: FrameType | None) -> None:
        ignore_signals()
        raise Interrupted(signal_number)

    for number in _SIGNALS:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: it was not set from Python


def ignore_signals() -> None:
    """Ignore signals until `interruptible` ends."""
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end_processes(sys.argv[1])
    shutil.rmtree(sys.argv[2], ignore_errors=True)
