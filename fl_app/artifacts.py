"""The run folder: what lies where, written whole or not at all, and read back."""

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fl_app.errors import RunFolderError

Arrays = dict[str, NDArray[np.generic]]

_CHECKPOINT = re.compile(r"round-(\d{4,})")
_KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class Checkpoint:
    """A model after a round, and what a resumed run needs beside it.

    Attributes:
        round_number: the last finished round.
        models: weights by name: `raw`, and `ema` and `node-ema` where there are any.
        state: the server optimiser's arrays.
        values: everything that is not an array.
    """

    round_number: int
    models: dict[str, Arrays]
    state: Arrays
    values: dict[str, Any]


class RunFolder:
    """One run's folder; every file in it is written whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: TextIO | None = None

    def lock(self) -> None:
        """Keep other servers out until `unlock` or the end of the process, however it ends.

        Raises:
            RunFolderError: another server writes here.
        """
        file = (self.path / ".lock").open("w", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise RunFolderError(f"{self.path} belongs to a run that is still going on.") from None
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
        """Read the metrics; a last line that was cut off by a crash does not count."""
        if not self.metrics_file.exists():
            return []
        lines = self.metrics_file.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1] if line]

    def cut_metrics(self, task: str, last_round: int) -> list[dict[str, Any]]:
        """Drop the lines of a task's rounds that a resumed run will do again, and return its others."""
        kept = [line for line in self.read_metrics() if line["task"] != task or line["round"] <= last_round]
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
        """Read the newest whole checkpoint of a task, or None."""
        found = list(_checkpoints(self.task(task) / "checkpoints"))
        return read_checkpoint(found[-1]) if found else None

    def best_checkpoint(self, task: str) -> Checkpoint | None:
        """Read the best model of a task, or None."""
        path = self.task(task) / "checkpoints" / "best"
        _recover(path)
        return read_checkpoint(path) if path.is_dir() else None


def read_options(folder: RunFolder) -> dict[str, Any]:
    """Read run.json.

    Raises:
        RunFolderError: it is missing or not whole.
    """
    try:
        found: dict[str, Any] = json.loads(folder.options_file.read_text(encoding="utf-8"))
        found["options"], found["run-name"]
    except FileNotFoundError:
        raise RunFolderError(f"{folder.path} is no run folder: it holds no run.json.") from None
    except (ValueError, KeyError, TypeError):
        raise RunFolderError(f"{folder.options_file} is damaged: start a new run instead.") from None
    return found


def read_status(folder: RunFolder) -> dict[str, Any]:
    """Read status.json; an empty dictionary where there is none."""
    try:
        found: dict[str, Any] = json.loads(folder.status_file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # written whole or not at all: damaged by somebody else
        return {}
    return found


def write_checkpoint(target: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint folder under a temporary name and then rename it.

    Raises:
        RunFolderError: the disk is full or cannot be written; nothing under the name of `target` has changed.
    """
    temporary = target.with_name(f".{target.name}.partial")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, weights in checkpoint.models.items():
            save_file(_contiguous(weights), temporary / f"{name}.safetensors")
        save_file(_contiguous(checkpoint.state), temporary / "server-optimizer.safetensors")
        values = {"round": checkpoint.round_number, "models": sorted(checkpoint.models), "values": checkpoint.values}
        (temporary / "state.json").write_text(json.dumps(values, indent=1, allow_nan=False), encoding="utf-8")
        for file in temporary.iterdir():
            _sync(file)
        _replace_folder(temporary, target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise RunFolderError(
            f"The checkpoint of round {checkpoint.round_number} could not be written to {target.parent}: "
            f"{error}. The earlier checkpoints are whole; make room and resume."
        ) from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint folder.

    Raises:
        RunFolderError: a file is missing or damaged.
    """
    try:
        document = json.loads((path / "state.json").read_text(encoding="utf-8"))
        models = {name: load_file(path / f"{name}.safetensors") for name in document["models"]}
        state = load_file(path / "server-optimizer.safetensors")
        return Checkpoint(int(document["round"]), models, state, document["values"])
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise RunFolderError(
            f"The checkpoint {path} is damaged ({type(error).__name__}). Delete that folder to resume from an "
            "earlier one, or start a new run."
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write JSON whole or not at all; a number that is not finite raises ValueError."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what was written there takes its place when the block ends well.

    Raises:
        RunFolderError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunFolderError(f"{path} could not be written: {error}.") from error


def replace_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary folder, which then takes the place of `target`."""
    temporary = target.with_name(f".{target.name}.partial")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        write(temporary)
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        _replace_folder(temporary, target)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise RunFolderError(f"{target} could not be written: {error}.") from error


def recover_folder(target: Path) -> None:
    """Put a folder back whose replacement was killed halfway; none is missing after this that was there before.

    Raises:
        RunFolderError: it cannot be put back.
    """
    try:
        _recover(target)
    except OSError as error:
        raise RunFolderError(f"{target} could not be put back: {error}.") from error


def new_run_name(recipe: str, unique: str) -> str:
    """Return `<time>-<recipe>-<unique>`."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{recipe}-{unique}"


def runs_folder(output_dir: str) -> Path:
    """Return where run folders are made: the option, or ~/fl-app/runs."""
    return Path(output_dir).expanduser().resolve() if output_dir else Path.home() / "fl-app" / "runs"


def _checkpoints(folder: Path) -> Iterator[Path]:
    """Yield checkpoint folders, the oldest round first."""
    found = [path for path in folder.glob("round-*") if _CHECKPOINT.fullmatch(path.name)]
    yield from sorted(found, key=lambda path: int(path.name.removeprefix("round-")))


def _replace_folder(temporary: Path, target: Path) -> None:
    """Rename a finished folder; an old one of that name steps aside first, since folders cannot be replaced."""
    aside = _recover(target)
    shutil.rmtree(aside, ignore_errors=True)
    if target.exists():
        target.rename(aside)
    temporary.rename(target)
    _sync(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _recover(target: Path) -> Path:
    """Put a folder back that was killed between stepping aside and being replaced; return where it steps to."""
    aside = target.with_name(f".{target.name}.old")
    if aside.exists() and not target.exists():
        aside.rename(target)
    return aside


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _contiguous(arrays: Arrays) -> Arrays:
    return {key: np.ascontiguousarray(value).reshape(value.shape) for key, value in arrays.items()}
