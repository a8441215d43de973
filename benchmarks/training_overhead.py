"""Time of a step of `train_local` over that of a bare loop, on the CPU.

The bare loop has what every training has, written by hand: noising, forward, backward, Adam's fused step, over batches
that lie ready. Both train the same model on the same batches under the same noise and end in the same weights, bit for
bit, which is checked. They take turns, so that a busy machine slows both; the ratio is the median of the ratios of
neighbours. Seconds are those of the CPU, which other processes disturb less than wall time; where the machine is busy
all the same, the ratio of the fastest turns is the steadier figure. `clipped` is our default, gradient-clip 1; the bare
loop does not clip.
"""

import argparse
import statistics
import time
from typing import NamedTuple

import torch
from diffusers import UNet2DModel
from torch import Tensor

from benchmarks.models import default_config
from benchmarks.output import Row, parser, run
from fl_app.data.images import Batch, ImageSet
from fl_app.data.loading import iterate
from fl_app.data.sources import dataset_info, load_split
from fl_app.diffusion.task import DiffusionTask
from fl_app.node.training import Progress, train_local
from fl_app.seeding import generator_for
from fl_app.tasks import initial_weights

_CPU = torch.device("cpu")
_TARGET = 1.05


class Case(NamedTuple):
    """What is timed: a model at an image size, with or without the clipping of gradients."""

    name: str
    overrides: dict[str, int | float | str | bool]
    num_steps: int


CASES = [
    Case("digits 8 px", {"diffusion.gradient-clip": 0.0}, 9),
    Case("digits 28 px", {"diffusion.gradient-clip": 0.0, "data.image-size": 28}, 3),
    Case("digits 8 px, clipped", {}, 9),
    Case("digits 28 px, clipped", {"data.image-size": 28}, 3),
]


def measure(arguments: argparse.Namespace) -> list[Row]:
    """Measure every case."""
    return [measure_case(case, arguments.repeats) for case in CASES if arguments.only in case.name]


def measure_case(case: Case, repeats: int) -> Row:
    """Let both loops take turns at one case."""
    config = default_config({**case.overrides, "diffusion.epochs": 1, "diffusion.lr-schedule": "constant"})
    task = DiffusionTask.of_run(config.pass_named("diffusion"), config, dataset_info(config.data))
    images = load_split(config.data, "train", 0)
    images = images.select(torch.arange(case.num_steps * config.diffusion.batch_size) % len(images))
    start = initial_weights(task, seed=0)
    pairs = []
    for repeat in range(repeats + 1):
        ours, our_weights = _time_ours(task, start, images)
        bare, bare_weights = _time_bare(task, start, images)
        if config.diffusion.gradient_clip == 0:
            assert all(torch.equal(our_weights[key], bare_weights[key]) for key in start), "both do the same work"
        if repeat > 0:  # the first turn warms up
            pairs.append((ours / case.num_steps, bare / case.num_steps))
    return {
        "case": case.name,
        "weights": sum(value.numel() for value in start.values()),
        "ms a step": 1000 * statistics.median(ours for ours, _ in pairs),
        "ms bare": 1000 * statistics.median(bare for _, bare in pairs),
        "ratio": statistics.median(ours / bare for ours, bare in pairs),
        "ratio of fastest": min(ours for ours, _ in pairs) / min(bare for _, bare in pairs),
        "target": _TARGET,
    }


def _time_ours(task: DiffusionTask, start: dict[str, Tensor], images: ImageSet) -> tuple[float, dict[str, Tensor]]:
    model = task.build_model()
    model.load_state_dict(start)
    noise, progress = _noise(), Progress(1, 1)
    started = time.process_time()
    train_local(model, task, images, task.options, progress, device=_CPU, order=_order, noise=noise)
    return time.process_time() - started, model.state_dict()


def _time_bare(task: DiffusionTask, start: dict[str, Tensor], images: ImageSet) -> tuple[float, dict[str, Tensor]]:
    model = task.build_model()
    model.load_state_dict(start)
    model.train()
    model.to(memory_format=torch.channels_last)
    noise = _noise()
    batches = list(iterate(images, task.options.batch_size, _CPU, _order(0)))
    alpha_of = task.schedule.alphas_cumprod.sqrt()
    started = time.process_time()
    optimizer = torch.optim.Adam(model.parameters(), task.options.learning_rate, fused=True)
    for batch in batches:
        loss = _bare_loss(model, batch, noise, alpha_of, task.diffusion.label_dropout)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.process_time() - started, model.state_dict()


def _bare_loss(
    model: UNet2DModel, batch: Batch, generator: torch.Generator, alpha_of: Tensor, label_dropout: float
) -> Tensor:
    x, labels = batch.images, batch.labels
    shift = torch.rand(1, generator=generator)
    t = ((shift + torch.arange(len(x)) / len(x)) % 1.0 * len(alpha_of)).long().clamp(max=len(alpha_of) - 1)
    eps = torch.randn(x.shape, generator=generator)
    hidden = torch.rand(len(x), generator=generator) < label_dropout
    alpha = alpha_of[t].view(-1, 1, 1, 1)
    sigma = (1.0 - alpha**2).sqrt()
    labels = torch.where(hidden, model.config.num_class_embeds - 1, labels)
    v = model(alpha * x + sigma * eps, t, class_labels=labels, return_dict=False)[0]
    error: Tensor = alpha**2 * (v - (alpha * eps - sigma * x)) ** 2
    return error.flatten(1).mean(1).mean()


def _order(epoch: int) -> torch.Generator:
    return generator_for(0, "site-0", epoch, "order")


def _noise() -> torch.Generator:
    return generator_for(0, "site-0", 1, "noise")


def main() -> None:
    """Read the arguments and measure."""
    arguments = parser(__doc__)
    arguments.add_argument("--repeats", type=int, default=21, help="turns of each loop (default: 21)")
    arguments.add_argument("--only", default="", metavar="TEXT", help="only cases whose name holds this")
    run(measure, arguments.parse_args())


if __name__ == "__main__":
    main()
