"""The app's log, and how texts from outside become fit for it.

The server prints the log to the stream that `flwr run --stream` shows, a hospital to its node's output.
"""

import logging
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST_REASON = 200

_CUT_BEFORE = 4  # times the longest text is read at most: a node may send gigabytes
_UNSAFE_KINDS = {"Cc", "Cs", "Zl", "Zp"}  # control characters, surrogates, line and paragraph separators
_TURNS_TEXT = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
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


def clean_text(text: str, longest: int = LONGEST_REASON) -> str:
    """Return a text as one line without control characters, cut to `longest`.

    Control characters would command a terminal; others would reverse the direction of the text after them.
    """
    safe = "".join(
        " " if letter in _TURNS_TEXT or unicodedata.category(letter) in _UNSAFE_KINDS else letter
        for letter in text[: _CUT_BEFORE * longest]
    )
    line = " ".join(safe.split())
    return f"{line[:longest]}…" if len(line) > longest else line
