"""Files decoded in processes of their own, in order: a decoder that crashes, hangs or eats memory costs one file.

A look at a file's header before decoding would stop most bombs, and is taken too. It is not enough: the stream inside a
DICOM file has a header of its own, and decoders written in C or Rust end the whole process on some damaged files.
"""

import atexit
import functools
import json
import math
import os
import queue
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fl_app.data.decoding import Header, Picture, Pixels
from fl_app.data.npz_arrays import broken
from fl_app.data.parts import Part
from fl_app.data.unreadable import MOST_PIXELS, MOST_VALUES, Fault, NoPixelsError, UnreadableImageError, unreadable
from fl_app.data.worker import MOST_MEMORY, seconds_for
from fl_app.errors import DataError

_MOST_WORKERS = 4
_FILES_A_WORKER = 16  # fewer are not worth a process's start
_PATIENCE = 10  # times the seconds of computing, for a busy machine and a slow disk
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Request:
    """What to read of a file.

    Attributes:
        path: the file.
        num_channels: 1 or 3, of the pixels; 0: as the file has it.
        wants_own: also return the pixels in the file's own channels.
        only_header: return no pixels.
    """

    path: Path
    num_channels: int = 0
    wants_own: bool = False
    only_header: bool = False


def read_files(requests: Sequence[Request]) -> Iterator[Picture | UnreadableImageError]:
    """Decode files, several at once; yield what became of each, in their order.

    Raises:
        DataError: the extra `dicom` is not installed, or no process for decoding can be started.
    """
    return _decoders(os.getpid()).read(requests)


def read_file(request: Request) -> Picture:
    """Decode one file.

    Raises:
        UnreadableImageError: it is missing or broken.
        DataError: as `read_files` does.
    """
    (found,) = read_files([request])
    if isinstance(found, UnreadableImageError):
        raise found
    return found


def read_npz_part(path: Path, part: Part) -> Generator[tuple[dict[str, Any], Pixels]]:
    """Yield what an npz says of a part, with its labels as bytes, [N, 1, 1, 8]; then images, [n, H, W, 1 or 3].

    Images are read when they are asked for. To be closed by whoever may not want all of them.

    Raises:
        DataError: as `npz_arrays.describe` does, or as `read_files` does.
    """
    return _decoders(os.getpid()).read_npz_part(path, {"part": part})


class _Decoders:
    """Processes for decoding; one that is idle is kept for the next call, as its start takes longer than most files."""

    def __init__(self) -> None:
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        self._pid = os.getpid()
        atexit.register(self.close)

    def read(self, requests: Sequence[Request]) -> Iterator[Picture | UnreadableImageError]:
        num_workers = min(_MOST_WORKERS, torch.get_num_threads(), math.ceil(len(requests) / _FILES_A_WORKER))
        if num_workers <= 1:
            yield from map(self._read, requests)
            return
        waiting: deque[Future[Picture | UnreadableImageError]] = deque()
        with ThreadPoolExecutor(num_workers) as threads:
            try:
                for request in requests:
                    waiting.append(threads.submit(self._read, request))
                    if len(waiting) > 2 * num_workers:  # no more, as each may hold a large picture
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
        self.close(but=1)

    def read_npz_part(self, path: Path, question: dict[str, Any]) -> Generator[tuple[dict[str, Any], Pixels]]:
        worker = self._take()
        try:
            yield from worker.stream(path, question)
        except (DataError, GeneratorExit):  # the file is bad, or nobody wants the rest: the next question is fine
            self._keep(worker)
            raise
        except BaseException:
            worker.end()
            raise
        self._keep(worker)

    def _keep(self, worker: "_Worker") -> None:
        if worker.is_alive:
            self._idle.put(worker)

    def _take(self) -> "_Worker":
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return _Worker()

    def _read(self, request: Request) -> Picture | UnreadableImageError:
        worker = self._take()
        try:
            found = worker.ask(request)
        except BaseException:  # someone wishes to stop: the answer to this question must not meet the next one
            worker.end()
            raise
        self._keep(worker)
        if isinstance(found, Picture | UnreadableImageError):
            return found
        raise found

    def close(self, but: int = 0) -> None:
        """End the idle processes, but for some."""
        while os.getpid() == self._pid and self._idle.qsize() > but:
            self._idle.get_nowait().end()


@functools.cache
def _decoders(_pid: int) -> _Decoders:
    """Return the processes of this process: a child that was forked must not share its parent's."""
    return _Decoders()


class _Worker:
    """One process: see `fl_app.data.worker`."""

    def __init__(self) -> None:
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.is_alive = True
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fl_app.data.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a decoder's own words may quote a patient's values
            env={**os.environ, **threads, "PYTHONPATH": path},
        )
        try:
            self._receive(_START_SECONDS)
        except (EOFError, TimeoutError) as error:
            self.end()
            raise DataError(
                f"The process that decodes images does not start ({type(error).__name__}). "
                f"`{sys.executable} -m fl_app.data.worker` says why.",
                public="the process that decodes images does not start",
            ) from error

    def ask(self, request: Request) -> Picture | DataError:
        """Let the process read a file; it does not outlive one that it cannot cope with."""
        seconds = seconds_for(request.path)
        try:
            self._send(vars(request) | {"path": os.path.abspath(request.path)})
            reply, arrays = self._receive(_PATIENCE * seconds)
            if "error" in reply:
                return _refused(reply)
        except (OSError, EOFError, ValueError) as error:
            self.end()
            return unreadable(request.path, Fault(self._last_words(error, seconds)))
        arrays = arrays or [np.zeros((0, 1, 1, 1), np.uint8)]
        return Picture(Header(**reply["header"]), arrays[0], arrays[-1], bool(reply.get("is_window_ignored")))

    def stream(self, path: Path, question: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Pixels]]:
        """Let the process read a file that is answered in pieces."""
        seconds = seconds_for(path)
        try:
            self._send(question | {"path": os.path.abspath(path)})
            while True:
                reply, arrays = self._receive(_PATIENCE * seconds)
                if "error" in reply:
                    raise _refused(reply)
                if "is_end" in reply:
                    return
                yield reply, arrays[0]
                self._send({})
        except (OSError, EOFError, ValueError) as error:
            self.end()
            raise broken(path, self._last_words(error, seconds)) from error

    def end(self) -> None:
        """End the process."""
        self.is_alive = False
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:  # a question that was never read
                continue

    def _send(self, question: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()

    def _receive(self, seconds: float) -> tuple[dict[str, Any], list[Pixels]]:
        assert self._process.stdout is not None
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN)
        if not poll.poll(1000 * seconds):  # each question has one reply, so that none was read ahead
            raise TimeoutError
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        reply: dict[str, Any] = json.loads(line)
        return reply, [self._pixels(shape) for shape in reply.get("shapes", [])]

    def _pixels(self, shape: Sequence[int]) -> Pixels:
        assert self._process.stdout is not None
        if len(shape) != 4 or not 0 <= math.prod(shape) <= max(MOST_VALUES, 3 * MOST_PIXELS):
            raise ValueError("shape")
        pixels = np.empty(shape, dtype=np.uint8)
        if self._process.stdout.readinto(pixels.data) != pixels.size:  # type: ignore[attr-defined]
            raise EOFError
        return pixels

    def _last_words(self, error: Exception, seconds: float) -> str:
        if isinstance(error, TimeoutError):
            return f"decoding it takes more than {_PATIENCE * seconds:.0f} s"
        if self._process.returncode == -signal.SIGXCPU:
            return f"decoding it takes more than {seconds:.0f} s"
        return f"its decoder crashed, or took more than {MOST_MEMORY / 2**30:.0f} GiB"


def _refused(reply: dict[str, Any]) -> DataError:
    """Return the error that a process met with."""
    kinds = {kind.__name__: kind for kind in (NoPixelsError, UnreadableImageError)}
    return kinds.get(reply["error"], DataError)(reply["text"], public=reply["public"])
