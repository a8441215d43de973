"""Decodes files in separate processes: a decoder that crashes, hangs or takes too much memory costs one file.

Checking a file's header before decoding stops most bombs, and is done too. It is not enough: the stream inside a DICOM
file has its own header, and decoders written in C or Rust end the whole process on some damaged files.
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
from pathlib import Path

import numpy as np
import torch

from fl_app.data.decoding import Picture, Pixels
from fl_app.data.listing import Part
from fl_app.data.npz_arrays import broken
from fl_app.data.unreadable import MOST_PIXELS, MOST_VALUES, Fault, NoPixelsError, UnreadableImageError, unreadable
from fl_app.data.worker import MOST_MEMORY, Reply, Request, seconds_for
from fl_app.errors import DataError
from fl_app.files import from_json

_MOST_WORKERS = 4
_FILES_A_WORKER = 16  # fewer are not worth a process's start
_PATIENCE = 10  # times the seconds of computing, for a busy machine and a slow disk
_START_SECONDS = 120.0


def read_files(requests: Sequence[Request]) -> Iterator[Picture | UnreadableImageError]:
    """Decode files, several at once; yield the image or the error of each, in their order.

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


def read_npz_part(path: Path, part: Part) -> Generator[tuple[Reply, Pixels]]:
    """Yield a reply that describes a part of an npz, with its labels as bytes, [N, 1, 1, 8]; then its images.

    Images come as [n, H, W, 1 or 3] and are read when they are requested. A caller that does not take all of them must
    close the generator.

    Raises:
        DataError: as `npz_arrays.describe` does, or as `read_files` does.
    """
    return _decoders(os.getpid()).read_npz_part(Request(path, part=part))


class _Decoders:
    """Processes for decoding; idle ones are kept for the next call, as their start takes longer than most files."""

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
                    if len(waiting) > 2 * num_workers:  # a limit, as each may hold a large image
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
        self.close(but=1)

    def read_npz_part(self, request: Request) -> Generator[tuple[Reply, Pixels]]:
        worker = self._take()
        try:
            yield from worker.stream(request)
        except (DataError, GeneratorExit):  # the file is bad, or nobody wants the rest: the process is fine
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
        except BaseException:  # interrupted: the answer to this request must not be taken for that to the next one
            worker.end()
            raise
        self._keep(worker)
        if isinstance(found, Picture | UnreadableImageError):
            return found
        raise found

    def close(self, but: int = 0) -> None:
        """End all idle processes, or all but some."""
        while os.getpid() == self._pid and self._idle.qsize() > but:
            self._idle.get_nowait().end()


@functools.cache
def _decoders(_pid: int) -> _Decoders:
    """Return the decoders of this process: a forked child must not share those of its parent."""
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
            stderr=subprocess.DEVNULL,  # a decoder's messages may quote a patient's values
            env={**os.environ, **threads, "PYTHONPATH": path},
        )
        try:
            self._receive(_START_SECONDS)
        except (EOFError, TimeoutError) as error:
            self.end()
            raise DataError(
                f"The process that decodes images does not start ({type(error).__name__}). "
                f"Run `{sys.executable} -m fl_app.data.worker` to see why.",
                public="the process that decodes images does not start",
            ) from error

    def ask(self, request: Request) -> Picture | DataError:
        """Let the process read an image; it ends if it cannot."""
        seconds = seconds_for(request.path)
        try:
            self._send(request)
            reply, arrays = self._receive(_PATIENCE * seconds)
        except (OSError, EOFError, ValueError) as error:
            self.end()
            return unreadable(request.path, Fault(self._last_words(error, seconds)))
        if reply.error:
            return _error_of(reply)
        arrays = arrays or [np.zeros((0, 1, 1, 1), np.uint8)]
        assert reply.header is not None
        return Picture(reply.header, arrays[0], arrays[-1], reply.is_window_ignored)

    def stream(self, request: Request) -> Iterator[tuple[Reply, Pixels]]:
        """Let the process read an npz, piece by piece."""
        seconds = seconds_for(request.path)
        try:
            self._send(request)
            while True:
                reply, arrays = self._receive(_PATIENCE * seconds)
                if reply.error:
                    raise _error_of(reply)
                if reply.is_end:
                    return
                yield reply, arrays[0]
                self._send(None)
        except (OSError, EOFError, ValueError) as error:
            self.end()
            raise broken(request.path, self._last_words(error, seconds)) from error

    def end(self) -> None:
        """End the process."""
        self.is_alive = False
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:  # a request that was never read
                continue

    def _send(self, request: Request | None) -> None:
        """Send a request, or ask for the next piece."""
        assert self._process.stdin is not None
        told = {} if request is None else vars(request) | {"path": os.path.abspath(request.path)}
        self._process.stdin.write(json.dumps(told).encode() + b"\n")
        self._process.stdin.flush()

    def _receive(self, seconds: float) -> tuple[Reply, list[Pixels]]:
        assert self._process.stdout is not None
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN)
        if not poll.poll(1000 * seconds):  # each request has one reply, so none was read ahead
            raise TimeoutError
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        reply = from_json(Reply, line)
        if reply is None:
            raise ValueError("reply")
        arrays = []
        for shape in reply.shapes:
            if not 0 <= math.prod(shape) <= max(MOST_VALUES, 3 * MOST_PIXELS):
                raise ValueError("shape")
            arrays.append(np.empty(shape, dtype=np.uint8))
            if self._process.stdout.readinto(arrays[-1].data) != arrays[-1].size:  # type: ignore[attr-defined]
                raise EOFError
        return reply, arrays

    def _last_words(self, error: Exception, seconds: float) -> str:
        if isinstance(error, TimeoutError):
            return f"decoding it takes more than {_PATIENCE * seconds:.0f} s"
        if self._process.returncode == -signal.SIGXCPU:
            return f"decoding it takes more than {seconds:.0f} s"
        return f"its decoder crashed, or took more than {MOST_MEMORY / 2**30:.0f} GiB"


def _error_of(reply: Reply) -> DataError:
    kinds = {kind.__name__: kind for kind in (NoPixelsError, UnreadableImageError)}
    return kinds.get(reply.error, DataError)(reply.text, public=reply.public)
