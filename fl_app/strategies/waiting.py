"""Keeps replies on disk until the round's update norms are known."""

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
    """A reply without its arrays, and the files that hold them."""

    reply: Reply
    norm: float
    weights: Path
    ema: Path | None


class WaitingReplies:
    """Keeps replies in files, so that only one is in memory."""

    def __init__(self, folder: str) -> None:
        """Make a folder for the files; remove the one that a killed server left.

        Args:
            folder: of the run; empty: the system's folder for temporary files.
        """
        self._waiting: list[_Waiting] = []
        if folder:
            for left in Path(folder).glob(f"{_PREFIX}*"):
                shutil.rmtree(left, ignore_errors=True)
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder or None))

    def norms(self) -> list[float]:
        """Return the norms of all updates."""
        return [one.norm for one in self._waiting]

    def put(self, reply: Reply, norm: float) -> None:
        """Write a reply's arrays to disk.

        Args:
            reply: an admitted reply.
            norm: norm of its update.

        Raises:
            RunFolderError: the arrays cannot be written.
        """
        number = len(self._waiting)
        weights = self._write(f"{number}.weights", reply.weights)
        ema = self._write(f"{number}.ema", reply.node_ema) if reply.node_ema is not None else None
        self._waiting.append(_Waiting(replace(reply, weights={}, node_ema=None), norm, weights, ema))

    def take(self) -> Iterator[tuple[Reply, float]]:
        """Yield each reply and its update norm, in the order of the sites' names; delete its files."""
        for one in sorted(self._waiting, key=lambda one: one.reply.site):
            ema = load_file(one.ema) if one.ema is not None else None
            yield replace(one.reply, weights=load_file(one.weights), node_ema=ema), one.norm
            one.weights.unlink()
            if one.ema is not None:
                one.ema.unlink()
        self.close()

    def close(self) -> None:
        """Delete the folder and all files in it."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self, name: str, arrays: Weights) -> Path:
        path = self._folder / name
        try:
            save_file({key: np.asarray(value, order="C") for key, value in arrays.items()}, path)
        except Exception as error:  # safetensors raises its own error if the disk is full
            raise RunFolderError(f"A reply cannot be written to {self._folder} ({error}). Free space there.") from error
        return path
