"""Folds replies into a mean whose bits do not depend on their order; those that cannot be judged yet wait on disk."""

import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from fl_app.errors import RunFolderError
from fl_app.messages.arrays import Weights
from fl_app.messages.records import Reply

LARGEST_TERM = 2.0**32  # of weight times value; 2,000 such terms fit before a sum overflows
SMALLEST_WEIGHT = 2.0**-20  # below it the fine unit would round float32 values away
_HIGH = 2.0**-20  # unit of the coarse sum: 2,048 of the largest terms make 2^63 units, one more than an int64 holds
_LOW = 2.0**-72  # unit of the fine sum: the rest below a coarse unit, far below float32's resolution
_MAX_TERMS = 2047
_PREFIX = ".waiting-"  # of the folders of waiting replies


class ExactMean:
    """Running sums of `weight * value` in fixed point; only the last division rounds.

    Integer addition is associative, so the order of arrival cannot matter; float addition is not. Each term is split
    into a coarse and a fine integer, which together keep every bit of float32 values times weights below 2^29. One
    term is held at a time: the sums take 16 bytes a number, however many terms are folded in.
    """

    def __init__(self, like: Mapping[str, NDArray[np.generic]]) -> None:
        self._dtypes = {key: value.dtype for key, value in like.items()}
        self._high = {key: np.zeros(value.shape, np.int64) for key, value in like.items()}
        self._low = {key: np.zeros(value.shape, np.int64) for key, value in like.items()}
        self._weights: list[float] = []

    @property
    def total_weight(self) -> float:
        """The sum of the weights, rounded once, so it does not depend on their order either."""
        return math.fsum(self._weights)

    def fits(self, weights: Mapping[str, NDArray[np.generic]], weight: float) -> bool:
        """Return whether a term can be added exactly: limits on its size, its weight and the number of terms."""
        largest = max((float(np.abs(value).max()) for value in weights.values() if value.size), default=0.0)
        return len(self._weights) < _MAX_TERMS and weight * largest <= LARGEST_TERM and not 0 < weight < SMALLEST_WEIGHT

    def add(self, weights: Mapping[str, NDArray[np.generic]], weight: float) -> None:
        """Add one term; the caller has checked keys and shapes, and that it `fits`."""
        for key, value in weights.items():
            term = np.array(value, dtype=np.float64)
            high = np.empty_like(term)
            term *= weight
            np.multiply(
                term, 1 / _HIGH, out=high
            )  # a power of two: exact, as below; in place, for new memory costs time
            np.rint(high, out=high)
            self._high[key] += high.astype(np.int64)
            high *= _HIGH
            term -= high
            term *= 1 / _LOW
            np.rint(term, out=term)
            self._low[key] += term.astype(np.int64)
        self._weights.append(weight)

    def result(self) -> dict[str, NDArray[np.generic]]:
        """Return the mean, each array in its own dtype; can be called once.

        Raises:
            ZeroDivisionError: the total weight is 0.
        """
        total_weight = self.total_weight
        if total_weight == 0:
            raise ZeroDivisionError("a mean needs a weight above 0")
        means: dict[str, NDArray[np.generic]] = {}
        for key, dtype in self._dtypes.items():
            total = self._high.pop(key) * _HIGH
            total += self._low.pop(key) * _LOW
            mean = np.asarray(total / total_weight)
            means[key] = (mean if dtype.kind == "f" else np.rint(mean)).astype(dtype)
        return means


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

    def norms(self) -> dict[str, float]:
        """Return the norm of each site's update."""
        return {one.reply.site: one.norm for one in self._waiting}

    def weights(self) -> dict[str, float]:
        """Return the weight of each site's reply."""
        return {one.reply.site: one.reply.weight for one in self._waiting}

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
