"""Processor time of a hospital's check of weights (`fl_app/node/history.py`), beside that of training.

A node receives the weights of a U-Net of 23 million weights, as in a round of the task `diffusion`: those of round 1,
which it also derives itself, then those of later rounds. Each check reads, compares and writes them, and notes how far
training moved them. Beside it: training steps on images of 32 x 32 pixels, and the share of the check in a round of a
number of images.

    python -m benchmarks.history_cost
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.models import default_config
from benchmarks.output import Row, parser, run
from fl_app.data.images import DatasetInfo, ImageSet, no_images
from fl_app.messages.records import TRAIN, Instruction
from fl_app.node.answering import Node
from fl_app.node.history import check_weights
from fl_app.node.images import LocalData
from fl_app.node.training import Progress, train_local
from fl_app.options.node import NodeConfig
from fl_app.seeding import generator_for
from fl_app.tasks import Task, build_task, initial_weights

_INFO = DatasetInfo(tuple(str(digit) for digit in range(10)), 1, 32)
_CPU = torch.device("cpu")


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each number of images of a round."""
    config = default_config({"diffusion.block-channels": "128,256,256,256"})
    task = build_task("diffusion", config, _INFO)
    own = initial_weights(task, config.seed)
    first: list[float] = []
    later: list[float] = []
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as folder:
            options = NodeConfig.from_flat({"data-path": "/images", "site": "north", "state-dir": str(Path(folder))})
            nothing = no_images(_INFO)
            node = Node(config, options, LocalData("north", nothing, nothing, nothing), _CPU)
            for number in (1, 2, 3):
                weights = {key: value + 1e-4 * (number - 1) for key, value in own.items()}
                trained = {key: value + 1e-3 for key, value in weights.items()}
                (first if number == 1 else later).append(_time_check(task, node, number, weights, trained))
    step = _time_step(task, own, arguments.repeats)
    training_options = task.options
    for num_images in (100, 1000):
        num_steps = num_images * training_options.epochs / training_options.batch_size
        yield {
            "weights": sum(value.numel() for value in own.values()),
            "images": num_images,
            "s a check, round 1": statistics.median(first),
            "s a check, later": statistics.median(later),
            "s a training step": step,
            "share of a round, %": 100 * statistics.median(later) / (num_steps * step),
        }


def _time_check(task: Task, node: Node, number: int, weights: dict[str, Tensor], trained: dict[str, Tensor]) -> float:
    instruction = Instruction("diffusion", number, "run", "", weights)
    started = time.process_time()
    check_weights(task, node, instruction, TRAIN).note_update(weights, trained)
    return time.process_time() - started


def _time_step(task: Task, weights: dict[str, Tensor], num_steps: int) -> float:
    model = task.build_model()
    model.load_state_dict(weights)
    size = task.options.batch_size
    images = ImageSet(
        torch.randint(0, 256, (num_steps * size, 1, 32, 32), dtype=torch.uint8),
        torch.arange(num_steps * size) % 10,
        _INFO.class_names,
    )
    options = task.options.model_copy(update={"epochs": 1.0})
    noise = generator_for(0, "north", 1, "noise")
    started = time.process_time()
    train_local(
        model, task, images, options, Progress(1, 1), device=_CPU,
        order=lambda epoch: generator_for(0, "north", epoch, "order"), noise=noise,
    )  # fmt: skip
    return (time.process_time() - started) / num_steps


if __name__ == "__main__":
    own_parser = parser(__doc__)
    own_parser.add_argument("--repeats", type=int, default=3, help="checks and training steps (default: 3)")
    run(measure, own_parser.parse_args())
