"""Claims a run folder for one `fl-app run` before Flower starts, so that a second one of that name fails at once."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fl_app.errors import OptionError, RunFolderError
from fl_app.files import make_private
from fl_app.runs.overview import CLAIM, is_held

_LOCKS = (".lock", CLAIM)  # of the server, and of the `fl-app run` that starts it


def is_free(folder: Path) -> bool:
    """Return whether no server holds a run folder, and no `fl-app run` is about to start or end one there."""
    return not any(is_held(folder, lock) for lock in _LOCKS)


def check_free(folder: Path, is_new: bool) -> None:
    """Check that a run can start in a folder.

    Args:
        folder: the run folder, which may not exist.
        is_new: the run is not resumed, so that the folder must not hold a run.

    Raises:
        RunFolderError: a run is going on there.
        OptionError: a new run is wanted, and the folder holds something.
    """
    if not is_free(folder):
        raise _busy(folder)
    _check_empty(folder, is_new)


@contextmanager
def claim(folder: Path, is_new: bool) -> Iterator[None]:
    """Make a run folder, keep every other `fl-app run` out of it, and remove it at the end if it is empty.

    Args:
        folder: the run folder.
        is_new: as for `check_free`.

    Raises:
        RunFolderError: a run is going on there, or the folder cannot be written.
        OptionError: a new run is wanted, and the folder holds something.
    """
    try:
        make_private(folder)
        lock = os.open(folder / CLAIM, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise RunFolderError(f"{folder} cannot be written: {error.strerror}.") from error
    try:
        _lock(lock, folder)
        try:
            _check_empty(folder, is_new)
            yield
        finally:
            if not _content(folder):  # the run ended before its server began
                (folder / CLAIM).unlink(missing_ok=True)
                folder.rmdir()
    finally:
        os.close(lock)


def _lock(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _busy(folder) from None
    except OSError as error:
        raise RunFolderError(f"{folder} cannot be written: {error.strerror}.") from error
    if is_held(folder) or os.fstat(lock).st_nlink == 0:  # 0: the one before has just removed it
        raise _busy(folder)


def _check_empty(folder: Path, is_new: bool) -> None:
    if is_new and _content(folder):
        raise OptionError(f"The run folder '{folder}' exists already: choose another run-name, or set resume to it.")


def _content(folder: Path) -> bool:
    """Return whether anything lies at a path but the claim of a run that was killed before its server began."""
    if not folder.is_dir():
        return folder.exists()
    return any(path.name != CLAIM for path in folder.iterdir())


def _busy(folder: Path) -> RunFolderError:
    return RunFolderError(
        f"{folder} belongs to a run that is still going on. Choose another 'run-name', or wait for its end."
    )
