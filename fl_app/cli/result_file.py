"""The files that a command may write."""

from pathlib import Path

from fl_app.errors import OptionError


def check_writable(out: Path) -> None:
    """Refuse, before the work begins, a result file that is no file; raises OptionError."""
    if out.exists() and not out.is_file():
        raise OptionError(f"--out must name a file, got {out}.")
