"""Progress on the screen: a live picture on a terminal, lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fl_app.runs.documents import RoundLine
from fl_app.runs.progress import Progress

_PHASES = {
    "starting": "starting Flower",
    "waiting": "waiting for nodes",
    "running": "training",
    "finishing": "last measurements, pictures, saving the model",
}


class View(Protocol):
    """Shows the progress of a run."""

    def show(self, progress: Progress, rounds: tuple[RoundLine, ...]) -> None:
        """Show the run's present state and all its finished rounds."""


class LineView:
    """Prints a line at each change, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._before: Progress | None = None
        self._num_shown = 0

    def show(self, progress: Progress, rounds: tuple[RoundLine, ...]) -> None:
        """Print what is new since the last call."""
        lines = [] if progress.state == getattr(self._before, "state", None) else [describe_phase(progress)]
        lines = [describe_round(one) for one in rounds[self._num_shown :]] + lines
        for line in lines:
            self._console.print(Text(line), soft_wrap=True)
        self._before, self._num_shown = progress, len(rounds)


class LiveView:
    """Redraws one picture on a terminal."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._start = time.monotonic()

    def show(self, progress: Progress, rounds: tuple[RoundLine, ...]) -> None:
        """Draw the picture again; its numbers already come from the rounds."""
        del rounds
        self._live.update(draw(progress, time.monotonic() - self._start))


def is_screen(console: Console) -> bool:
    """Tell whether a console can redraw a picture."""
    return console.is_terminal and not console.is_dumb_terminal


@contextmanager
def open_view(console: Console) -> Iterator[View]:
    """Open a live picture on a terminal, else a view that prints lines."""
    if not console.is_terminal:
        yield LineView(console)
        return
    with Live(console=console, refresh_per_second=4) as live:
        yield LiveView(live)


def draw(progress: Progress, elapsed_seconds: float) -> RenderableType:
    """Draw the live picture."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    table.add_row("phase", Text(describe_phase(progress)))
    if progress.num_rounds:
        table.add_row("round", f"{progress.round}/{progress.num_rounds}")
        table.add_row("", ProgressBar(total=progress.num_rounds, completed=max(progress.round - 1, 0), width=40))
    if progress.replied or progress.failed or progress.awaited:
        table.add_row("nodes", Text(describe_nodes(progress)))
    for site, reason in progress.failed.items():
        table.add_row("", Text(f"{site}: {reason}", style="red"))
    if progress.loss is not None:
        table.add_row("loss", f"{progress.loss:.4f}{_validation(progress.validation_loss)}")
    if progress.images_per_second is not None:
        table.add_row("speed", f"{progress.images_per_second:.0f} images/s")
    left = "" if progress.seconds_left is None else f", about {format_time(progress.seconds_left)} left"
    table.add_row("time", f"{format_time(elapsed_seconds)}{left}")
    return Group(table, Text("Ctrl-C stops the run; it can be resumed.", style="dim"))


def describe_phase(progress: Progress) -> str:
    """Return the phase of the run, such as `training diffusion`."""
    phase = _PHASES.get(progress.state, progress.state)
    task = f" {progress.task}" if progress.task and progress.state == "running" else ""
    return f"{phase}{task}" + (f": {progress.reason}" if progress.reason else "")


def describe_nodes(progress: Progress) -> str:
    """Return the nodes of the round, such as `3 replied, 1 failed, awaiting site4`."""
    parts = [f"{len(progress.replied)} replied"]
    if progress.failed:
        parts.append(f"{len(progress.failed)} failed")
    if progress.awaited:
        parts.append(f"awaiting {', '.join(progress.awaited)}")
    return ", ".join(parts)


def describe_round(record: RoundLine) -> str:
    """Return a line on a finished round, and a line for each node that did not contribute."""
    line = f"{record.task} round {record.round}/{record.num_rounds or '?'}"
    if record.outcome != "ok":
        line += f"  failed: {record.reason or 'no reason given'}"
    if record.train_loss is not None:
        line += f"  loss {record.train_loss:.4f}{_validation(record.validation_loss)}"
    others = {site: node for site, node in record.nodes.items() if node.outcome != "contributed"}
    line += f"  {len(record.nodes) - len(others)} of {len(record.nodes)} nodes"
    if record.images_per_second is not None:
        line += f"  {record.images_per_second:.0f} images/s"
    if record.seconds is not None:
        line += f"  {format_time(record.seconds)}"
    for site, node in others.items():
        line += f"\n  {site} {node.outcome}" + (f": {node.reason}" if node.reason else "")
    return line


def format_time(seconds: float) -> str:
    """Return a duration as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _validation(loss: float | None) -> str:
    return "" if loss is None else f" (validation {loss:.4f})"
