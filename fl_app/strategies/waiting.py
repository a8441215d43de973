"""Replies that wait on disk until it is known how long the round's updates are."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from fl_app.errors import RunFolderError
from fl_app.messages.arrays import Weights
from fl_app.messages.records import Reply

_PREFIX = ".waiting-"


@dataclass(frozen=True)
class _Waiting:
    """A reply without its arrays, and where they lie."""

    reply: Reply
    norm: float
    weights: Path
    ema: Path | None


class WaitingReplies:
    """Keeps replies in files, so that one at a time is in memory, however many there are."""

    def __init__(self, folder: str) -> None:
        """Make a folder for the files, and remove that of a server that was killed.

        Args:
            folder: of the run; empty: the system's own for temporary files.
        """
        self._waiting: list[_Waiting] = []
        if folder:
            for left in Path(folder).glob(f"{_PREFIX}*"):
                shutil.rmtree(left, ignore_errors=True)
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder or None))

    def norms(self) -> list[float]:
        """Return the lengths of all updates."""
        return [one.norm for one in self._waiting]

    def put(self, reply: Reply, norm: float) -> None:
        """Write a reply's arrays to disk.

        Args:
            reply: a fit one.
            norm: length of its update.

        Raises:
            RunFolderError: they cannot be written.
        """
        number = len(self._waiting)
        weights = self._write(f"{number}.weights", reply.weights)
        ema = self._write(f"{number}.ema", reply.node_ema) if reply.node_ema is not None else None
        self._waiting.append(_Waiting(replace(reply, weights={}, node_ema=None), norm, weights, ema))

    def take(self) -> Iterator[tuple[Reply, float]]:
        """Yield each reply and the length of its update, in the order of the sites' names; its files are removed."""
        for one in sorted(self._waiting, key=lambda one: one.reply.site):
            ema = load_file(one.ema) if one.ema is not None else None
            yield replace(one.reply, weights=load_file(one.weights), node_ema=ema), one.norm
            one.weights.unlink()
            if one.ema is not None:
                one.ema.unlink()
        self.close()

    def close(self) -> None:
        """Remove the folder and what is still in it."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self, name: str, arrays: Weights) -> Path:
        path = self._folder / name
        try:
            save_file({key: np.asarray(value, order="C") for key, value in arrays.items()}, path)
        except Exception as error:  # safetensors raises its own for a full disk
            raise RunFolderError(f"A reply cannot be written to {self._folder} ({error}). Free space there.") from error
        return path
