"""A timed step of the run's own network on blank images, and the batch that fits into memory."""

import gc
from collections.abc import Callable
from dataclasses import dataclass

import torch

from fl_app.config import FederationOptions
from fl_app.data.images import DatasetInfo, ImageSet
from fl_app.doctor.finding import Finding, Verdict, plural
from fl_app.seeding import generator_for
from fl_app.tasks.base import Task
from fl_app.training import Progress, train_local

_TIMED_STEPS = 3
_LARGEST_FACTOR = 16  # times the run's batch: how far a GPU is tried
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


@dataclass(frozen=True)
class Fit:
    """What batch fits, and how fast it is.

    Attributes:
        batch_size: the run's, or the largest half, quarter, … of it that fits; 0 if not even one image does.
        largest: the largest that was tried and fits.
        seconds: of a step of `batch_size` images.
    """

    batch_size: int
    largest: int
    seconds: float


def check_step(
    task: Task, info: DatasetInfo, device: torch.device, num_images: int, federation: FederationOptions
) -> Finding:
    """Train the network for some steps, and tell how long a round will take.

    Args:
        task: of the run.
        info: of the run's images.
        device: of the node.
        num_images: the node's training images.
        federation: says how long a round may take.
    """
    options = task.options
    fit = find_fit(lambda size: time_step(task, info, size, device), options.batch_size, device.type == "cuda")
    name = f"step of {task.name}"
    if fit.batch_size == 0:
        return Finding(name, "not ready", "The network does not fit into memory, not even with one image at a time.")
    weights = sum(parameter.numel() for parameter in task.build_model().parameters()) / 1e6
    round_seconds = num_images * options.epochs * fit.seconds / fit.batch_size
    text = (
        f"{weights:.2f} M weights; a step of {plural(fit.batch_size, 'image')} takes {fit.seconds:.3f} s "
        f"({fit.batch_size / fit.seconds:.0f} images/s), a round of {options.epochs:g} epochs of this node's "
        f"{plural(num_images, 'image')} about {round_seconds:.0f} s."
    )
    if fit.largest > options.batch_size:
        text += f" Batches of up to {fit.largest} fit."
    if fit.batch_size < options.batch_size:
        wish = f"The run's batch of {options.batch_size} does not fit into memory, {fit.batch_size} does: free some"
        return Finding(name, "not ready", f"{text} {wish}, or ask the coordinator for a smaller batch.")
    deadline = federation.round_deadline_seconds
    if round_seconds > deadline / 2:
        verdict: Verdict = "not ready" if round_seconds > deadline else "warning"
        return Finding(name, verdict, f"{text} A round may take {deadline:g} s: ask the coordinator for more.")
    return Finding(name, "ready", text)


def kept_bytes(task: Task, checkpoint_every: int) -> int:
    """Return the most that a node keeps on disk for a task: states of some rounds, as `client` asks for them."""
    size = int(sum(weight.numel() * weight.element_size() for weight in task.build_model().state_dict().values()))
    moments = {"adam": 2, "adamw": 2, "sgd": 1}[task.options.optimizer] if task.options.keep_optimizer_state else 0
    return (moments + task.keeps_weights) * size * (2 * checkpoint_every + 1)


def find_fit(time_of: Callable[[int], float], batch_size: int, may_grow: bool) -> Fit:
    """Halve the batch until it fits; where the run's own fits at once, double it to see how far it can grow.

    Args:
        time_of: seconds of a step of that many images; raises what PyTorch raises where memory ends.
        batch_size: the run's.
        may_grow: whether to look for more. Not in host memory, where the system would kill the program.
    """
    size, seconds = batch_size, _seconds_or_none(time_of, batch_size)
    while seconds is None and size > 1:
        size //= 2
        seconds = _seconds_or_none(time_of, size)
    if seconds is None:
        return Fit(0, 0, 0.0)
    largest = size
    while may_grow and size == batch_size and largest < batch_size * _LARGEST_FACTOR:
        if _seconds_or_none(time_of, 2 * largest) is None:
            break
        largest *= 2
    return Fit(size, largest, seconds)


def time_step(task: Task, info: DatasetInfo, batch_size: int, device: torch.device) -> float:
    """Return the seconds that a step of training takes: the run's optimiser, precision and network."""
    pixels = torch.zeros(batch_size, info.num_channels, info.image_size, info.image_size, dtype=torch.uint8)
    labels = torch.arange(batch_size) % len(info.class_names)
    images = ImageSet(pixels.to(device), labels.to(device), info.class_names)
    model = task.build_model().to(device)
    seconds = 0.0
    for num_steps in (1, _TIMED_STEPS):  # the first step finds the fastest convolutions, or compiles
        changed = {"batch_size": batch_size, "epochs": float(num_steps), "learning_rate": 1e-12}
        result = train_local(
            model,
            task.losses,
            images,
            task.options.model_copy(update=changed),
            Progress(1, 1),
            device=device,
            order=lambda epoch: generator_for(0, "doctor", epoch, "order"),
            noise=generator_for(0, "doctor", 0, "noise", device),
        )
        seconds = result.seconds / result.num_steps
    return seconds


def _seconds_or_none(time_of: Callable[[int], float], batch_size: int) -> float | None:
    """Time a step; None where memory ends."""
    try:
        return time_of(batch_size)
    except (RuntimeError, MemoryError) as error:  # torch.cuda.OutOfMemoryError is a RuntimeError
        if isinstance(error, RuntimeError) and not any(words in str(error).lower() for words in _OUT_OF_MEMORY):
            raise
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return None
