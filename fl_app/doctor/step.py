"""A timed step of the run's own network on blank images, and the batch that fits into memory."""

import functools
import gc
import subprocess
import sys
import time
from dataclasses import dataclass

import torch

from fl_app.data.images import DatasetInfo, ImageSet
from fl_app.doctor.finding import Finding, Verdict, plural
from fl_app.node.training import Progress, train_local
from fl_app.options.federation import FederationOptions
from fl_app.options.run import PassPlan
from fl_app.seeding import generator_for
from fl_app.tasks import Task

_TIMED_STEPS = 3
_LARGEST_FACTOR = 16  # times the run's batch: how far a GPU is tried


@dataclass(frozen=True)
class Step:
    """A step of training.

    Attributes:
        seconds: wall time.
        num_pieces: into how many pieces the batch had to be cut to fit into the GPU's memory.
    """

    seconds: float
    num_pieces: int


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

    Raises:
        FlAppError: not even one image at a time fits into the GPU's memory.
    """
    options, batch_size = task.options, task.options.batch_size
    step = time_step(task, info, batch_size, device)
    if num_images == 0:
        return Finding(f"step of {task.name}", "not checked", "The node has no training image that could be read.")
    round_seconds, start_seconds = num_images * options.epochs * step.seconds / batch_size, time_start(task.name)
    text = (
        f"{_num_weights(task) / 1e6:.2f} M weights; a step of {plural(batch_size, 'image')} takes {step.seconds:.3f} s "
        f"({batch_size / step.seconds:.0f} images/s); a round of {options.epochs:g} epochs of this node's "
        f"{plural(num_images, 'training image')} about {round_seconds:.0f} s, after {start_seconds:.0f} s in which a "
        "process starts."
    )
    verdict: Verdict = "ready"
    if step.num_pieces > 1:
        text += f" A batch does not fit into memory and is cut into {step.num_pieces} pieces: same result, but slower."
        verdict = "warning"
    elif device.type == "cuda":  # not in host memory, where the system would kill the program
        text += f" Batches of up to {largest_batch(task, info, device)} fit."
    deadline = federation.round_deadline_seconds
    round_seconds += start_seconds
    if round_seconds > deadline / 2:
        text += f" The run gives a round {deadline:g} s: ask the coordinator for more."
        verdict = "not ready" if round_seconds > deadline else "warning"
    return Finding(f"step of {task.name}", verdict, text)


@functools.cache
def time_start(task: str) -> float:
    """Return the seconds in which a process starts that can train a task: each message to a hospital starts one."""
    modules = ["fl_app.node.client", *(["fl_app.diffusion.task"] if task == "diffusion" else [])]
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", f"import {', '.join(modules)}"], check=False, capture_output=True)
    return time.monotonic() - started


def largest_batch(task: Task, info: DatasetInfo, device: torch.device) -> int:
    """Double the run's batch, which fits, until it no longer does; return the last that did."""
    fits = task.options.batch_size
    for _ in range(_LARGEST_FACTOR.bit_length() - 1):
        if time_step(task, info, 2 * fits, device).num_pieces > 1:
            break
        fits *= 2
    return fits


def time_step(task: Task, info: DatasetInfo, batch_size: int, device: torch.device) -> Step:
    """Time a step of training: the run's optimiser, precision and network."""
    pixels = torch.zeros(batch_size, info.num_channels, info.image_size, info.image_size, dtype=torch.uint8)
    labels = torch.arange(batch_size) % len(info.class_names)
    images = ImageSet(pixels.to(device), labels.to(device), info.class_names)
    model = task.build_model().to(device)
    seconds, num_pieces = 0.0, 1
    for num_steps in (1, _TIMED_STEPS):  # the first step finds the fastest convolutions, or compiles
        changed = {"batch_size": batch_size, "epochs": float(num_steps), "learning_rate": 1e-12}
        result = train_local(
            model,
            task,
            images,
            task.options.model_copy(update=changed),
            Progress(1, 1),
            device=device,
            order=lambda epoch: generator_for(0, "doctor", epoch, "order"),
            noise=generator_for(0, "doctor", 0, "noise", device),
        )
        seconds, num_pieces = result.seconds / result.num_steps, result.num_pieces
    del model, images, result
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return Step(seconds, num_pieces)


def kept_bytes(plan: PassPlan, task: Task, checkpoint_every: int) -> int:
    """Return the most that a node keeps on disk for a pass: states of some rounds, as `client` asks for them."""
    size = int(sum(weight.numel() * weight.element_size() for weight in task.build_model().state_dict().values()))
    moments = {"adam": 2, "adamw": 2, "sgd": 1}[plan.options.optimizer] if plan.options.keep_optimizer_state else 0
    return (moments + plan.keeps_weights) * size * (2 * checkpoint_every + 1)


def _num_weights(task: Task) -> int:
    return sum(parameter.numel() for parameter in task.build_model().parameters())
