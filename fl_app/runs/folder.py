"""The run folder: what lies where, written whole or not at all, and read back."""

import fcntl
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TextIO

from fl_app.errors import RunFolderError
from fl_app.files import (
    check_manifest,
    from_json,
    recover_folder,
    replacing,
    write_text,
)
from fl_app.runs.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from fl_app.runs.run_json import RunDocument

log = logging.getLogger(__name__)


_CHECKPOINT = re.compile(r"round-(\d{4,})")
_KEPT_CHECKPOINTS = 2


class RunFolder:
    """One run's folder; every file in it is written whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: TextIO | None = None

    def lock(self) -> None:
        """Keep other servers out until `unlock` or the end of the process, however it ends.

        Raises:
            RunFolderError: another server writes here, or the folder cannot be written.
        """
        with ExitStack() as stack:
            try:
                file = stack.enter_context((self.path / ".lock").open("w", encoding="utf-8"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunFolderError(f"{self.path} belongs to a run that is still going on.") from None
            except OSError as error:
                raise RunFolderError(f"{self.path} cannot be written: {error.strerror}.") from error
            stack.pop_all()  # the lock outlives this call
            self._lock = file

    def unlock(self) -> None:
        """Let others in."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def options_file(self) -> Path:
        """Options, versions, seeds, nodes: written first of all."""
        return self.path / "run.json"

    @property
    def status_file(self) -> Path:
        """What the run is doing, and at the end what came of it."""
        return self.path / "status.json"

    @property
    def metrics_file(self) -> Path:
        """One line for each round."""
        return self.path / "metrics.jsonl"

    def task(self, name: str) -> Path:
        """Return the folder of a task."""
        return self.path / name

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add a line to the metrics, on disk before the call returns."""
        with self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read_metrics(self) -> list[dict[str, Any]]:
        """Read the lines that are whole; a crash may have cut off the last one, somebody may have damaged others."""
        if not self.metrics_file.exists():
            return []
        lines = self.metrics_file.read_bytes().split(b"\n")
        found = [_read_line(line) for line in lines[:-1] if line]
        damaged = [number for number, line in enumerate(found, start=1) if line is None]
        if damaged:
            log.warning("%s: damaged lines are left out: %s", self.metrics_file, ", ".join(map(str, damaged)))
        return [line for line in found if line is not None]

    def cut_metrics(self, task: str, last_round: int) -> list[dict[str, Any]]:
        """Drop the lines of a task's rounds that a resumed run will do again, and return its others.

        What was damaged stays beside them, in `metrics.jsonl.damaged`.
        """
        whole = self.read_metrics()
        kept = [line for line in whole if line["task"] != task or line["round"] <= last_round]
        if self.metrics_file.exists() and self.metrics_file.read_bytes().count(b"\n") > len(whole):
            with replacing(self.path / "metrics.jsonl.damaged") as temporary:
                shutil.copy(self.metrics_file, temporary)
        write_text(self.metrics_file, "".join(json.dumps(line) + "\n" for line in kept))
        return [line for line in kept if line["task"] == task]

    def save_checkpoint(self, task: str, checkpoint: Checkpoint) -> None:
        """Write a checkpoint beside the earlier ones, and then drop all but the newest two."""
        folder = self.task(task) / "checkpoints"
        write_checkpoint(folder / f"round-{checkpoint.round_number:04d}", checkpoint)
        for old in list(_checkpoints(folder))[:-_KEPT_CHECKPOINTS]:
            shutil.rmtree(old)

    def save_best(self, task: str, checkpoint: Checkpoint) -> None:
        """Write the best model so far in place of the one before."""
        write_checkpoint(self.task(task) / "checkpoints" / "best", checkpoint)

    def last_checkpoint(self, task: str) -> Checkpoint | None:
        """Read the newest checkpoint of a task, or None.

        Raises:
            RunFolderError: it is damaged; the text says how to go on with the one before.
        """
        found = list(_checkpoints(self.task(task) / "checkpoints"))
        if not found:
            return None
        try:
            return read_checkpoint(found[-1])
        except RunFolderError as error:
            raise RunFolderError(f"{error} {_advise(found[-1], found[:-1])}") from None

    def warn_of_damage(self, task: str) -> None:
        """Log which checkpoints before the newest one are damaged: nobody can go back to them."""
        for path in list(_checkpoints(self.task(task) / "checkpoints"))[:-1]:
            try:
                check_manifest(path)
            except RunFolderError as error:
                log.warning("%s The newest checkpoint is whole", error)

    def best_checkpoint(self, task: str) -> Checkpoint | None:
        """Read the best model of a task, or None.

        Raises:
            RunFolderError: it is damaged.
        """
        path = self.task(task) / "checkpoints" / "best"
        recover_folder(path)
        if not path.is_dir():
            return None
        try:
            return read_checkpoint(path)
        except RunFolderError as error:
            raise RunFolderError(f"{error} It is the best model so far; delete that folder to do without it.") from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that the run wrote.

    Raises:
        RunFolderError: it is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise damaged(path)
    return found


def damaged(path: Path) -> RunFolderError:
    """Say that a file of figures, written by the run, is not as it was written."""
    return RunFolderError(f"{path} is damaged. Delete it and resume; the report then lacks its figures.")


def read_options(folder: RunFolder) -> dict[str, Any]:
    """Read run.json.

    Raises:
        RunFolderError: it is missing or not whole.
    """
    try:
        found: dict[str, Any] = json.loads(folder.options_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(f"{folder.path} is no run folder: it holds no run.json.") from None
    except (OSError, ValueError):
        found = {}
    if from_json(RunDocument, found) is None:
        raise RunFolderError(f"{folder.options_file} is damaged: start a new run instead.")
    return found


def read_status(folder: RunFolder) -> dict[str, Any]:
    """Read status.json; an empty dictionary if there is none, or, with a warning, if it is damaged."""
    try:
        found = json.loads(folder.status_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:  # written whole or not at all: damaged by somebody else
        found = None
    if not isinstance(found, dict):
        log.warning(
            "%s is damaged: what the run was doing, or whether it has finished, is not known", folder.status_file
        )
        return {}
    return found


def _advise(damaged: Path, earlier: list[Path]) -> str:
    """Say how to go on without the newest checkpoint."""
    for path in reversed(earlier):
        with suppress(RunFolderError):
            check_manifest(path)
            number = int(path.name.removeprefix("round-"))
            return f"To go on after round {number}, delete the folder {damaged.name} and resume."
    return "No earlier checkpoint is whole: start a new run."


def _read_line(text: bytes) -> dict[str, Any] | None:
    """Read a line of metrics.jsonl; None if it is damaged."""
    try:
        line = json.loads(text)
        is_whole = isinstance(line["task"], str) and isinstance(line["round"], int)
    except (ValueError, LookupError, TypeError):
        return None
    return line if is_whole else None


def _checkpoints(folder: Path) -> Iterator[Path]:
    """Yield checkpoint folders, the oldest round first."""
    found = [path for path in folder.glob("round-*") if _CHECKPOINT.fullmatch(path.name)]
    yield from sorted(found, key=lambda path: int(path.name.removeprefix("round-")))
