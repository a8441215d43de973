"""What `fl-app repeat` shows while its runs go on: a line for each run; a screen also shows how far they are."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from fl_app.runs.progress import RunReader
from fl_app.runs.quality import read_quality
from fl_app.runs.results import describe_results, read_comparison, results
from fl_app.runs.view import describe_phase, format_time, is_screen
from fl_app.simulation.repeat import Ended, Running, Show


@dataclass
class Board:
    """Prints a line for each run that starts or ends; a screen also shows those that go on.

    Attributes:
        total: runs of the grid.
        done: that were finished before.
        live: the screen; None if there is none.
        num_told: runs whose end has been told.
        known: runs whose start has been told.
    """

    console: Console
    total: int
    done: int
    live: Live | None = None
    num_told: int = 0
    known: set[str] = field(default_factory=set)

    def show(self, running: Sequence[Running], ended: Sequence[Ended]) -> None:
        """Tell what is new, and draw the runs that go on."""
        for one in ended[self.num_told :]:
            self.num_told += 1
            self._print(f"[{self.done + self.num_told}/{self.total}] {describe_end(one)}")
        for begun in running:
            if begun.job.name not in self.known:
                self.known.add(begun.job.name)
                if self.live is None:
                    self._print(f"{begun.job.name}: starts")
        if self.live is not None:
            self.live.update(Group(*(Text(describe_running(one)) for one in running), Text(self._left(ended, running))))

    def _print(self, line: str) -> None:
        self.console.print(line, soft_wrap=True, markup=False, highlight=False)

    def _left(self, ended: Sequence[Ended], running: Sequence[Running]) -> str:
        """Say how long the rest may take, by the runs so far."""
        ours = self.total - self.done
        rest = ours - len(ended)
        if not ended or not rest:
            return "Ctrl-C stops all runs; the same command goes on with them."
        seconds = rest * sum(one.seconds for one in ended) / len(ended) / max(len(running), 1)
        return f"about {format_time(seconds)} left. Ctrl-C stops all runs; the same command goes on with them."


@contextmanager
def open_board(console: Console, total: int, done: int) -> Iterator[Show]:
    """Open a board for the runs of a grid.

    Args:
        console: what is no screen gets lines, without control characters.
        total: runs of the grid.
        done: that were finished before.
    """
    if not is_screen(console):
        yield Board(console, total, done).show
        return
    with Live(console=console, refresh_per_second=2, transient=True) as live:
        yield Board(console, total, done, live).show


def describe_running(one: Running) -> str:
    """Return a line on a run that goes on."""
    progress = one.progress()
    at = f"  round {progress.round}/{progress.num_rounds}" if progress.num_rounds else ""
    return f"{one.job.name}  {describe_phase(progress)}{at}  {format_time(time.time() - one.started)}"


def describe_end(one: Ended) -> str:
    """Return a line on a run that has ended: its figures, or why it failed."""
    if one.exit_status:
        return f"{one.job.name} FAILED after {format_time(one.seconds)}: {one.reason}"
    folder = one.job.folder
    rounds = RunReader(folder, since=0.0).read_rounds()
    found = results(
        list(dict.fromkeys(line.task for line in rounds)), rounds, read_comparison(folder), read_quality(folder)
    )
    state = "degraded" if one.is_degraded else "completed"
    reached = f", {describe_results(found)}" if found else ""
    return f"{one.job.name}: {state}, {format_time(one.seconds)}{reached}"
