"""What `fl-app status --watch` shows until a run has ended: one picture on a screen, lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live

from fl_app.errors import UnknownRunError
from fl_app.runs.documents import ENDED
from fl_app.runs.overview import Overview, find_run, look_at
from fl_app.runs.view import LineView, is_screen

SECONDS = 1.0  # between two looks

Show = Callable[[Overview], None]


def wait_for_run(named: Path | None, runs: Path, console: Console) -> Path:
    """Return a run's folder, absolute, as soon as it exists; a line says so if that takes a while.

    Args:
        named: a run folder, or the name of a run in `runs`; None: the newest run there.
        runs: where run folders are.
        console: for the line.
    """
    is_told = False
    while True:
        try:
            return find_run(named, runs)
        except UnknownRunError as error:
            if not is_told:
                console.print(f"waiting for the run to begin. {error}", soft_wrap=True, markup=False)
            is_told = True
        time.sleep(SECONDS)


def watch_run(folder: Path, console: Console, picture: Callable[[Overview], RenderableType]) -> Overview:
    """Show how a run stands until it has ended, or no server works on it any more, and return how it stands then.

    Args:
        folder: of the run.
        console: what is no screen gets lines, without control characters.
        picture: what a screen shows.
    """
    was_left = False
    with _open_view(console, picture) as show:
        while True:
            overview = look_at(folder, time.time())
            show(overview)
            is_left = overview.is_alive is False
            if overview.is_alive is not True and overview.state in ENDED:
                return overview
            if is_left and was_left:  # twice: it may only just begin
                return overview
            was_left = is_left
            time.sleep(SECONDS)


@contextmanager
def _open_view(console: Console, picture: Callable[[Overview], RenderableType]) -> Iterator[Show]:
    if is_screen(console):
        with Live(console=console, auto_refresh=False) as live:
            yield lambda overview: live.update(picture(overview), refresh=True)
        return
    lines, told = LineView(console), set[str]()

    def show(overview: Overview) -> None:
        lines.show(overview.progress, tuple(overview.files.rounds))
        for site in overview.described:
            if site not in told:
                parts = overview.images.get(site, {})
                counts = ", ".join(f"{part} {sum(classes)}" for part, classes in parts.items())
                console.print(f"{site} has said what it holds: {counts}", soft_wrap=True, markup=False)
                told.add(site)

    yield show
