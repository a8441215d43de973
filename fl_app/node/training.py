"""The optimiser loop, and measurement of models on held-out images."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fl_app.accumulation import accumulate_gradients
from fl_app.classification.balancing import Replay
from fl_app.data.images import Batch, ImageSet
from fl_app.data.loading import batches_of_round, place, take
from fl_app.diffusion.averages import ema_decay
from fl_app.errors import FlAppError
from fl_app.optimizers import autocast, build_optimizer, set_step_size
from fl_app.options.training import TrainingOptions
from fl_app.seeding import generator_for
from fl_app.tasks import Task


class Objective(Protocol):
    """The loss that a node minimises."""

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Make every random choice of a training step, for the whole batch; the result can be sliced."""

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of each image of a drawn batch, or of a slice of it: [B]; draws nothing itself."""


@dataclass(frozen=True)
class Progress:
    """The position of a round in the whole training.

    Attributes:
        round_number: from 1.
        num_rounds: rounds of the whole training.
    """

    round_number: int
    num_rounds: int

    def share_done(self, step: int, num_steps: int) -> float:
        """Return the share of the training done before a step of this round, in [0, 1)."""
        return (self.round_number - 1 + step / num_steps) / self.num_rounds


@dataclass(frozen=True)
class LocalResult:
    """Result of a round's training; the model itself was trained in place.

    Attributes:
        loss_sum: sum of the training losses over all images seen.
        num_losses: images seen, each epoch counted.
        num_steps: optimiser steps.
        num_pieces: pieces per batch; more than 1 if GPU memory was short.
        seconds: wall time of the loop.
        optimizer_state: flat tensors, for `optimizer_state` of the next round.
        ema: the averaged weights; None if no EMA was asked for.
    """

    loss_sum: float
    num_losses: int
    num_steps: int
    num_pieces: int
    seconds: float
    optimizer_state: dict[str, Tensor]
    ema: dict[str, Tensor] | None


def train_local(
    model: nn.Module,
    objective: Objective,
    images: ImageSet,
    options: TrainingOptions,
    progress: Progress,
    *,
    device: torch.device,
    order: Callable[[int], torch.Generator],
    noise: torch.Generator,
    proximal_mu: float = 0.0,
    optimizer_state: Mapping[str, Tensor] | None = None,
    ema: Mapping[str, Tensor] | None = None,
    ema_horizon: float = 0.0,
    fewest: int = 1,
    replay: Replay | None = None,
) -> LocalResult:
    """Train a model in place for `options.epochs` epochs, a whole number or a fraction.

    Args:
        model: on the device.
        objective: draws the noise of a batch and gives the loss of each image.
        images: the node's training images; an empty set trains nothing.
        options: epochs, batch size, optimiser.
        progress: sets the step size within the schedule of the whole training.
        device: of the batches.
        order: gives the CPU generator that shuffles the images of an epoch, counted from 0 over the whole training.
        noise: generator on the device, for all random choices of the objective. It also seeds dropout: only dropout's
            masks differ if a batch is cut into pieces.
        proximal_mu: weight of FedProx's term mu/2 ||w - w_global||^2 (Li et al. 2020, eq. 2); 0 turns it off.
        optimizer_state: state kept from an earlier round; None starts fresh.
        ema: weights that the average over steps continues from; None turns averaging off.
        ema_horizon: averaging time as a share of the whole training.
        fewest: images, as in `batches_of_round`.
        replay: images to train on beside these, in each batch; the losses that are returned are in proportion.

    Raises:
        FlAppError: the loss is no longer finite, or the GPU cannot hold a single image's gradients.
    """
    model.train()
    model.to(memory_format=torch.channels_last)  # faster convolutions, in bfloat16 on CUDA and on the CPU, too
    optimizer = build_optimizer(model, options)
    if optimizer_state:
        _load_optimizer_state(optimizer, optimizer_state)
    runner = cast(nn.Module, torch.compile(model)) if options.compile else model
    anchor = [p.detach().clone() for p in model.parameters()] if proximal_mu > 0 else []
    average = {key: value.to(device, copy=True) for key, value in ema.items()} if ema is not None else None
    batches = batches_of_round(len(images), options.batch_size, options.epochs, progress.round_number, order, fewest)
    num_steps = len(batches)
    loss_sum = torch.zeros((), dtype=torch.float64 if device.type == "cpu" else torch.float32, device=device)
    further = torch.Generator().manual_seed(noise.initial_seed())
    started = time.perf_counter()
    num_pieces = 1
    with _seeded_dropout(noise.initial_seed(), device):
        for step, indices in enumerate(batches):
            share_done = progress.share_done(step, num_steps)
            set_step_size(optimizer, options, share_done)
            own = take(images, indices, device)
            batch = objective.draw(replay.beside(own, further) if replay else own, noise)

            def losses_of(part: slice, batch: Batch = batch) -> Tensor:
                with autocast(options, device):
                    return objective.losses(runner, batch[part])

            step_sum, num_pieces = accumulate_gradients(losses_of, optimizer, len(batch), num_pieces)
            if anchor:
                pairs = zip(model.parameters(), anchor, strict=True)
                distance = torch.stack([(parameter - start).square().sum() for parameter, start in pairs]).sum()
                (proximal_mu / 2 * distance).backward()  # adds to the gradients
            if options.gradient_clip > 0:
                nn.utils.clip_grad_norm_(model.parameters(), options.gradient_clip)
            optimizer.step()
            loss_sum += step_sum * (len(own) / len(batch))
            if average is not None:
                _average(average, model, share_done, num_steps * progress.num_rounds, ema_horizon)
    total = float(loss_sum)  # the only point that waits for the device
    if not math.isfinite(total):
        raise FlAppError("Local training diverged: the loss is no longer finite. Lower the learning rate.")
    seconds = time.perf_counter() - started
    state = _flat_optimizer_state(optimizer)
    num_losses = sum(len(indices) for indices in batches)
    return LocalResult(total, num_losses, num_steps, num_pieces, seconds, state, average)


def measure(
    task: Task,
    models: Mapping[str, Mapping[str, Tensor]],
    images: ImageSet,
    device: torch.device,
    seed: int,
    site: str,
) -> dict[str, NDArray[np.float64]]:
    """Measure several sets of weights on the same images under the same random draws.

    The draws depend only on the seed and the site, so figures of different rounds can be compared.

    Args:
        task: defines the figures.
        models: weights by name, such as `raw` and `ema`.
        images: held-out images; an empty set gives sums of 0.
        device: where to compute.
        seed: of the run.
        site: of the node.

    Returns:
        Additive sums, their keys prefixed with the model's name and a slash.
    """
    model = task.build_model().to(device)
    placed = place(images, device)
    measured: dict[str, NDArray[np.float64]] = {}
    for name, weights in models.items():
        model.load_state_dict(dict(weights))
        generator = generator_for(seed, site, 0, "validation", device)
        for key, value in task.measure(model, placed, device, generator).items():
            measured[f"{name}/{key}"] = value
    return measured


def _flat_optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's state as flat contiguous tensors: `<parameter's number>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value.detach().cpu().contiguous().clone()
        for index, entries in state.items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }


def _load_optimizer_state(optimizer: torch.optim.Optimizer, flat: Mapping[str, Tensor]) -> None:
    """Restore such a state; each moment gets its parameter's strides, since fused kernels ignore strides."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        is_moment = value.shape == parameter.shape
        own = torch.empty_like(parameter, dtype=value.dtype).copy_(value) if is_moment else value.clone()
        state.setdefault(int(index), {})[name] = own
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


@contextmanager
def _seeded_dropout(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators, from which dropout draws, and restore them afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def _average(
    average: dict[str, Tensor], model: nn.Module, share_done: float, num_steps_in_all: int, horizon: float
) -> None:
    decay = ema_decay(share_done * num_steps_in_all, horizon * num_steps_in_all)
    for key, value in model.state_dict().items():
        average[key].lerp_(value, 1.0 - decay)
