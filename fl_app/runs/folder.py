"""The run folder: its lock, its metrics and its checkpoints; every file is written whole or not at all."""

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fl_app.errors import RunFolderError
from fl_app.files import (
    MANIFEST,
    check_manifest,
    from_json,
    recover_folder,
    replace_folder,
    replacing,
    to_json,
    write_manifest,
)
from fl_app.runs.documents import RoundLine, RunStatus

log = logging.getLogger(__name__)

Arrays = dict[str, NDArray[np.generic]]

_BEST_DRAWN = "best-drawn"
_KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class Checkpoint:
    """A model after a round, and what a resumed run needs beside it.

    Attributes:
        round_number: the last finished round.
        models: weights by name: `raw`, and `ema` and `node-ema` if there are any.
        state: the server optimiser's arrays.
        values: everything that is not an array.
    """

    round_number: int
    models: dict[str, Arrays]
    state: Arrays
    values: Mapping[str, Any]


class RunFolder:
    """One run's folder."""

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
        """run.json: options, versions, seed and nodes; written first of all."""
        return self.path / "run.json"

    @property
    def status_file(self) -> Path:
        """What the run is doing, and at the end its result."""
        return self.path / "status.json"

    @property
    def metrics_file(self) -> Path:
        """One line for each round."""
        return self.path / "metrics.jsonl"

    def task(self, name: str) -> Path:
        """Return the folder of a task."""
        return self.path / name

    def append_metrics(self, line: RoundLine) -> None:
        """Add a line to the metrics; it is on disk when the call returns."""
        with self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(to_json(line), allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read_metrics(self) -> list[RoundLine]:
        """Read the whole lines of the metrics; a crash may have cut off the last one, others may be damaged."""
        return [line for _, line in self._read_metrics()]

    def _read_metrics(self) -> list[tuple[bytes, RoundLine]]:
        """Return each whole line of the metrics as it stands there, and what it says."""
        if not self.metrics_file.exists():
            return []
        whole: list[tuple[bytes, RoundLine]] = []
        damaged: list[str] = []
        lines = [line for line in self.metrics_file.read_bytes().split(b"\n")[:-1] if line]
        for number, text in enumerate(lines, start=1):
            line = from_json(RoundLine, text)
            if line is not None:
                whole.append((text, line))
            else:
                damaged.append(str(number))
        if damaged:
            log.warning("%s: damaged lines are left out: %s", self.metrics_file, ", ".join(damaged))
        return whole

    def cut_metrics(self, task: str, last_round: int) -> list[RoundLine]:
        """Drop the lines of a task's rounds that a resumed run repeats, and return the lines of its other rounds.

        If lines are damaged, a copy of the file is kept as `metrics.jsonl.damaged`.
        """
        whole = self._read_metrics()
        kept = [(text, line) for text, line in whole if line.task != task or line.round <= last_round]
        if self.metrics_file.exists() and self.metrics_file.read_bytes().count(b"\n") > len(whole):
            with replacing(self.path / "metrics.jsonl.damaged") as temporary:
                shutil.copy(self.metrics_file, temporary)
        with replacing(self.metrics_file) as temporary:
            temporary.write_bytes(b"".join(text + b"\n" for text, _ in kept))
        return [line for _, line in kept if line.task == task]

    def save_checkpoint(self, task: str, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, and then delete all but the newest two."""
        write_checkpoint(self.task(task) / "checkpoints" / f"round-{checkpoint.round_number:04d}", checkpoint)
        for old in self._checkpoints(task)[:-_KEPT_CHECKPOINTS]:
            shutil.rmtree(old)

    def save_best(self, task: str, checkpoint: Checkpoint) -> None:
        """Write the best model so far in place of the one before."""
        write_checkpoint(self.task(task) / "checkpoints" / "best", checkpoint)

    def save_best_drawn(self, task: str, checkpoint: Checkpoint) -> None:
        """Write the model with the best images so far in place of the one before."""
        write_checkpoint(self.task(task) / "checkpoints" / _BEST_DRAWN, checkpoint)

    def last_checkpoint(self, task: str) -> Checkpoint | None:
        """Read the newest checkpoint of a task; None if there is none.

        Raises:
            RunFolderError: it is damaged; the text says how to go on with the one before.
        """
        found = self._checkpoints(task)
        if not found:
            return None
        *earlier, newest = found
        try:
            return read_checkpoint(newest)
        except RunFolderError as error:
            advice = "No earlier checkpoint is whole: start a new run."
            for path in earlier:
                with suppress(RunFolderError):
                    check_manifest(path)
                    number = int(path.name.removeprefix("round-"))
                    advice = f"To go on after round {number}, delete the folder {newest.name} and resume."
            raise RunFolderError(f"{error} {advice}") from None

    def warn_of_damage(self, task: str) -> None:
        """Log which checkpoints before the newest one are damaged: no run can go back to them."""
        for path in self._checkpoints(task)[:-1]:
            try:
                check_manifest(path)
            except RunFolderError as error:
                log.warning("%s The newest checkpoint is whole", error)

    def best_checkpoint(self, task: str) -> Checkpoint | None:
        """Read the best model of a task; None if there is none.

        Raises:
            RunFolderError: it is damaged.
        """
        return self._read_best(task, "best")

    def best_drawn(self, task: str) -> Checkpoint | None:
        """Read the model with the best images of a task; None if there is none.

        Raises:
            RunFolderError: it is damaged.
        """
        return self._read_best(task, _BEST_DRAWN)

    def _read_best(self, task: str, name: str) -> Checkpoint | None:
        path = self.task(task) / "checkpoints" / name
        recover_folder(path)
        if not path.is_dir():
            return None
        try:
            return read_checkpoint(path)
        except RunFolderError as error:
            raise RunFolderError(
                f"{error} It is the best model so far. To resume without it, delete that folder."
            ) from None

    def _checkpoints(self, task: str) -> list[Path]:
        """Return a task's checkpoint folders, the oldest round first."""
        paths = (self.task(task) / "checkpoints").glob("round-*")
        numbered = [(path.name.removeprefix("round-"), path) for path in paths]
        return [path for _, path in sorted((int(number), path) for number, path in numbered if number.isdecimal())]


def write_checkpoint(target: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint folder under a temporary name and then rename it.

    Raises:
        RunFolderError: the disk is full or cannot be written; nothing under the name of `target` has changed.
    """

    def write(folder: Path) -> None:
        for name, arrays in {**checkpoint.models, "server-optimizer": checkpoint.state}.items():
            whole = {key: np.ascontiguousarray(value).reshape(value.shape) for key, value in arrays.items()}
            save_file(whole, folder / f"{name}.safetensors")
        values = {"round": checkpoint.round_number, "models": sorted(checkpoint.models), "values": checkpoint.values}
        (folder / "state.json").write_text(json.dumps(values, indent=1, allow_nan=False), encoding="utf-8")
        write_manifest(folder)

    try:
        replace_folder(target, write)
    except RunFolderError as error:
        raise RunFolderError(f"{error} The earlier checkpoints are whole; make room and resume.") from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint folder.

    Raises:
        RunFolderError: a file is missing or has changed since it was written.
    """
    named = check_manifest(path)
    try:
        document = json.loads((path / "state.json").read_text(encoding="utf-8"))
        files = {name: f"{name}.safetensors" for name in [*document["models"], "server-optimizer"]}
        if not named >= {"state.json", *files.values()}:
            raise RunFolderError(f"{path} is damaged: {MANIFEST} does not name all files.")
        arrays = {name: load_file(path / file) for name, file in files.items()}
        state = arrays.pop("server-optimizer")
        return Checkpoint(int(document["round"]), arrays, state, document["values"])
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, SafetensorError) as error:
        raise RunFolderError(f"{path} is damaged ({type(error).__name__}).") from None


def read_status(folder: RunFolder) -> RunStatus:
    """Read status.json; that of a run that only starts if there is none, or, with a warning, if it is damaged."""
    try:
        found = from_json(RunStatus, folder.status_file.read_bytes())
    except FileNotFoundError:
        return RunStatus()
    if found is not None:  # we write it whole or not at all; what else damaged it is unknown
        return found
    log.warning("%s is damaged: what the run was doing, or whether it has finished, is not known", folder.status_file)
    return RunStatus()
