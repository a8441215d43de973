"""Checks the machine: GPU, memory, disk."""

import os
import tempfile
from pathlib import Path
from typing import Literal

import psutil
import torch

from fl_app.doctor.finding import Finding, Verdict

_GIB = 2**30
_LEAST_MEMORY = 2 * _GIB  # mostly for PyTorch and Flower themselves
_LEAST_DISK = 2 * _GIB

# A container's limit and use of memory; psutil sees the whole machine.
_CGROUP = Path("/sys/fs/cgroup")


def check_device(wanted: Literal["auto", "cpu", "cuda"]) -> Finding:
    """Name the GPU that the node will train on.

    Args:
        wanted: the node option `device`.
    """
    if wanted == "cpu":
        return Finding("device", "ready", f"{_describe_cpus()}; the node option 'device' is 'cpu'.")
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name, driver = torch.cuda.get_device_name(), torch.version.cuda or torch.version.hip
        verdict: Verdict = "warning" if free < total / 2 else "ready"
        taken = " Another program uses the rest." if verdict == "warning" else ""
        text = f"{name}, {free / _GIB:.1f} of {total / _GIB:.1f} GiB free; PyTorch {torch.__version__} for {driver}."
        return Finding("device", verdict, text + taken)
    if wanted == "cuda":
        text = (
            "The node option 'device' is 'cuda', but PyTorch finds no GPU: fix the driver, or set the option to 'cpu'."
        )
        return Finding("device", "not ready", text)
    text = f"PyTorch finds no GPU: training runs on {_describe_cpus()}. If the machine has one, check its driver."
    return Finding("device", "warning", text)


def check_memory(num_image_bytes: int) -> Finding:
    """Check that the images fit into memory beside PyTorch and Flower.

    Args:
        num_image_bytes: bytes that all images of the node take in memory.
    """
    needed, free = _LEAST_MEMORY + 3 * num_image_bytes, available_memory()  # reading makes copies
    images = f"{num_image_bytes / _GIB:.2f} GiB of images"
    text = f"{free / _GIB:.1f} GiB of memory are available; a node with {images} takes about {needed / _GIB:.1f} GiB."
    if free < needed:
        return Finding(
            "memory", "not ready" if free < needed / 2 else "warning", f"{text} End other programs, or add memory."
        )
    return Finding("memory", "ready", text)


def check_disk(state_dir: Path, num_bytes: int) -> Finding:
    """Check that the node can keep its files between rounds.

    Args:
        state_dir: the folder, which may not exist yet.
        num_bytes: the most that a run keeps there.
    """
    place = next(folder for folder in (state_dir, *state_dir.absolute().parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        problem = os.strerror(error.errno) if error.errno else type(error).__name__
        text = (
            f"The node cannot write to 'state-dir': {problem}. Set this node option to a folder that it can write to."
        )
        return Finding("disk", "not ready", text)
    free = psutil.disk_usage(str(place)).free
    text = f"{free / _GIB:.1f} GiB are free in 'state-dir'; a run keeps up to {num_bytes / _GIB:.2f} GiB there."
    if free < num_bytes:
        return Finding("disk", "not ready", f"{text} Free space, or set it to a folder on another disk.")
    if free < num_bytes + _LEAST_DISK:
        return Finding("disk", "warning", f"{text} Little will be left.")
    return Finding("disk", "ready", text)


def device_of(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Return the device for a node option: the CPU if there is no GPU."""
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def available_memory(cgroup: Path = _CGROUP) -> int:
    """Return the available bytes of memory; in a container, those within its limit."""
    free = psutil.virtual_memory().available
    try:
        limit, used = (int((cgroup / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no limit reads `max`
        return int(free)
    return int(min(free, max(limit - used, 0)))


def _describe_cpus() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} CPUs"
