"""The app's log: the server prints it to the stream that `flwr run --stream` shows, a hospital to its node's output."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OF_NODES = ("fl_app.node", "fl_app.data")

_LINES = logging.Formatter("%(asctime)s %(levelname)s : %(message)s", "%Y-%m-%d %H:%M:%S")


def hide_log() -> None:
    """Print nothing, not even warnings, which Python prints by default: a simulated node's log names files."""
    logging.getLogger("fl_app").addHandler(logging.NullHandler())


def show_log() -> None:
    """Print the app's log, each line with its time."""
    ours = logging.getLogger("fl_app")
    if not any(type(handler) is logging.StreamHandler for handler in ours.handlers):
        handler = logging.StreamHandler()
        handler.setFormatter(_LINES)
        ours.addHandler(handler)
    ours.setLevel(logging.INFO)


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append the server's log to a file during the block; a full disk costs the log, not the run.

    A node's log names its files and is left out, even if server and node are in one process.
    """
    ours = logging.getLogger("fl_app")
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        ours.warning("The log cannot be kept in %s: %s", path, error.strerror)
        yield
        return
    handler.setFormatter(_LINES)
    handler.addFilter(lambda record: not record.name.startswith(_OF_NODES))
    ours.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        handler.close()
