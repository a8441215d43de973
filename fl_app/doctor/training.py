"""Times training steps of the run's network, finds the largest batch, and judges rounds on the node's own images."""

import functools
import gc
import math
import subprocess
import sys
import time
from collections.abc import Sequence
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
_LARGEST_FACTOR = 16  # largest batch tried on a GPU, as a multiple of the run's


@dataclass(frozen=True)
class Step:
    """The result of timed training steps.

    Attributes:
        seconds: wall time of a step.
        num_pieces: number of pieces into which the batch was cut to fit into the GPU's memory.
    """

    seconds: float
    num_pieces: int


def check_step(
    task: Task, info: DatasetInfo, device: torch.device, num_images: int, federation: FederationOptions
) -> Finding:
    """Train the network for some steps, and estimate the time of a round.

    Args:
        task: of the run.
        info: of the run's images.
        device: of the node.
        num_images: the node's training images.
        federation: holds the deadline of a round.

    Raises:
        FlAppError: not even one image at a time fits into the GPU's memory.
    """
    options, batch_size = task.options, task.options.batch_size
    step = time_step(task, info, batch_size, device)
    if num_images == 0:
        return Finding(f"step of {task.name}", "not checked", "A run could read no training image, see above.")
    round_seconds, start_seconds = num_images * options.epochs * step.seconds / batch_size, time_start(task.name)
    num_weights = sum(parameter.numel() for parameter in task.build_model().parameters())
    text = (
        f"{num_weights / 1e6:.2f} M weights; a step of {plural(batch_size, 'image')} takes {step.seconds:.3f} s "
        f"({batch_size / step.seconds:.0f} images/s). A round of {options.epochs:g} epochs of this node's "
        f"{plural(num_images, 'training image')} takes about {round_seconds:.0f} s, plus {start_seconds:.0f} s to "
        "start a process."
    )
    verdict: Verdict = "ready"
    if step.num_pieces > 1:
        text += (
            f" A batch does not fit into memory and is cut into {step.num_pieces} pieces: slower, with the same result."
        )
        verdict = "warning"
    elif device.type == "cuda":  # not on a CPU: if memory runs out there, the system kills the program
        text += f" Batches of up to {largest_batch(task, info, device)} fit."
    deadline = federation.round_deadline_seconds
    round_seconds += start_seconds
    if round_seconds > deadline / 2:
        text += f" The run's deadline for a round is {deadline:g} s: ask the coordinator for a later one."
        verdict = "not ready" if round_seconds > deadline else "warning"
    return Finding(f"step of {task.name}", verdict, text)


@functools.cache
def time_start(task: str) -> float:
    """Return the seconds that a node's process takes to start: each message to a hospital starts one."""
    modules = ["fl_app.node.client", *(["fl_app.diffusion.task"] if task == "diffusion" else [])]
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", f"import {', '.join(modules)}"], check=False, capture_output=True)
    return time.monotonic() - started


def largest_batch(task: Task, info: DatasetInfo, device: torch.device) -> int:
    """Double the run's batch, which fits into memory, as long as it fits; return the largest batch that did."""
    fits = task.options.batch_size
    for _ in range(_LARGEST_FACTOR.bit_length() - 1):
        if time_step(task, info, 2 * fits, device).num_pieces > 1:
            break
        fits *= 2
    return fits


def time_step(task: Task, info: DatasetInfo, batch_size: int, device: torch.device) -> Step:
    """Time a training step with the run's network, optimiser and precision, on blank images."""
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
    """Return the most bytes that a node keeps on disk for a pass: the states of several rounds."""
    size = int(sum(weight.numel() * weight.element_size() for weight in task.build_model().state_dict().values()))
    moments = {"adam": 2, "adamw": 2, "sgd": 1}[plan.options.optimizer] if plan.options.keep_optimizer_state else 0
    return (moments + plan.keeps_weights) * size * (2 * checkpoint_every + 1)


@dataclass(frozen=True)
class LocalRound:
    """A round of one task at this node alone.

    Attributes:
        loss: mean training loss; nan without images.
        num_images: that it trained on, each epoch counted.
        seconds: of training, without reading images and measuring.
    """

    loss: float
    num_images: int
    seconds: float


def judge_training(task: str, rounds: Sequence[LocalRound], before: float | None, after: float | None) -> Finding:
    """Judge some rounds of local training by their losses.

    Args:
        task: its name.
        rounds: in order, at least one.
        before: loss of the untrained weights on the node's held-out images; None if none are held out.
        after: loss of the trained weights on them.
    """
    name = f"training of {task}"
    num_images, seconds = sum(one.num_images for one in rounds), sum(one.seconds for one in rounds)
    if num_images == 0:
        return Finding(name, "not ready", "No image was trained on: the folder holds too few images for a round.")
    losses = ", ".join(f"{one.loss:.4f}" for one in rounds)
    speed = f"{num_images / seconds:.0f} images/s" if seconds > 0 else "too fast to be timed"
    text = f"{plural(len(rounds), 'round')}, nothing sent: training loss {losses}; {speed}"
    if before is not None and after is not None:
        return _verdict(name, f"{text}; on held-out images {before:.4f} before, {after:.4f} after.", after < before)
    measured = [one.loss for one in rounds if math.isfinite(one.loss)]
    return _verdict(name, f"{text}.", len(measured) < 2 or measured[-1] < measured[0])


def _verdict(name: str, text: str, has_improved: bool) -> Finding:
    if has_improved:
        return Finding(name, "ready", text)
    return Finding(
        name, "warning", f"{text} The loss did not fall: one or two rounds may be too few, or the labels may be wrong."
    )
