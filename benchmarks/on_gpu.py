"""What one GPU gives: images a second, memory, what bfloat16 and a restored optimiser change, several nodes on a card.

Trains the network of a recipe with `train_local` on Fashion-MNIST, resized as the recipe says, and prints three kinds
of rows: speed (each precision, with and without torch.compile), rounds (two rounds whose optimiser state went through
the host against one training that never stopped, and the same training twice), and nodes (processes that train at once
on the same card, as simulated nodes do).

    python -m benchmarks.on_gpu --recipe fashion-mnist --image-size 28 --batch-size 128
"""

import argparse
import time
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, multiprocessing, nn

from benchmarks.models import default_config
from benchmarks.output import Row, parser, run
from fl_app.data.images import ImageSet
from fl_app.data.sources import dataset_info, load_split
from fl_app.diffusion.task import DiffusionTask
from fl_app.node.training import LocalResult, Progress, train_local
from fl_app.options.app_files import own_app, read_options
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue
from fl_app.seeding import generator_for
from fl_app.tasks import initial_weights

COLUMNS = ("what", "precision", "compiled", "nodes", "ms a step", "images a second", "peak MiB", "loss", "differs by")


def config_of(chosen: argparse.Namespace, precision: str, compiled: bool = False) -> RunConfig:
    """Return a recipe's options, with a constant step size, so that rounds can be joined."""
    sets: dict[str, OptionValue] = {"data.limit": 0, "diffusion.epochs": 1.0, "diffusion.lr-schedule": "constant"}
    sets |= {"diffusion.precision": precision, "diffusion.compile": compiled, "diffusion.dropout": 0.0}
    sets |= {"data.image-size": chosen.image_size} if chosen.image_size else {}
    sets |= {"diffusion.batch-size": chosen.batch_size} if chosen.batch_size else {}
    return default_config({**read_options(own_app() / "recipes" / f"{chosen.recipe}.toml", "recipe"), **sets})


class Trainer:
    """A model, its images, and its optimiser's state, which goes through the host between rounds."""

    def __init__(self, config: RunConfig, num_steps: int, device: str) -> None:
        self.config, self.device = config, torch.device(device)
        self.task = DiffusionTask.of_run(config.pass_named("diffusion"), config, dataset_info(config.data))
        images = load_split(config.data, "train", 0)
        self.images: ImageSet = images.select(torch.arange(num_steps * config.diffusion.batch_size) % len(images))
        self.model = cast(nn.Module, self.task.build_model())
        self.model.load_state_dict(initial_weights(self.task, seed=0))
        self.model.to(self.device)
        self.noise = generator_for(0, "site", 1, "noise", self.device)
        self.state: dict[str, Tensor] | None = None

    def train(self, epochs: int = 1, number: int = 1) -> LocalResult:
        """Train for some epochs; the noise goes on from round to round."""
        result = train_local(
            self.model,
            self.task,
            self.images,
            self.config.diffusion.model_copy(update={"epochs": float(epochs)}),
            Progress(number, 2),
            device=self.device,
            order=lambda epoch: generator_for(0, "site", epoch, "order"),
            noise=self.noise,
            optimizer_state=self.state,
        )
        self.state = result.optimizer_state
        return result

    def weights(self) -> Tensor:
        """Return all weights in one row, on the host."""
        return torch.cat([value.detach().flatten().cpu() for value in self.model.state_dict().values()])


def speed(chosen: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each precision, plain and compiled."""
    for precision in ("float32", "bfloat16"):
        for compiled in (False, True) if chosen.compile else (False,):
            trainer = Trainer(config_of(chosen, precision, compiled), chosen.steps, chosen.device)
            trainer.train()  # warms up, and compiles
            yield _timed(trainer, {"what": "speed", "precision": precision, "compiled": str(compiled), "nodes": 1})


def rounds(chosen: argparse.Namespace) -> Iterator[Row]:
    """Yield rows for the same training twice, and for one whose optimiser was kept on the host after half of it."""
    for precision in ("float32", "bfloat16"):
        config = config_of(chosen, precision)
        whole, again, halves = (Trainer(config, chosen.steps, chosen.device) for _ in range(3))
        whole.train(2)
        again.train(2)
        halves.train(1, 1)
        halves.train(1, 2)
        for what, other in (("the same training twice", again), ("two rounds, state kept", halves)):
            differs = float((other.weights() - whole.weights()).abs().max())
            yield _row({"what": what, "precision": precision, "nodes": 1, "differs by": differs})


def nodes(chosen: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each number of processes that train at once; steps and memory of the slowest, images of all."""
    context = multiprocessing.get_context("spawn")
    for number in chosen.nodes:
        barrier, found = context.Barrier(number), context.Queue()
        parts = [context.Process(target=_one_node, args=(chosen, barrier, found)) for _ in range(number)]
        for part in parts:
            part.start()
        rows = [found.get() for _ in parts]
        for part in parts:
            part.join()
        total = sum(row["images a second"] for row in rows)
        slowest = max(rows, key=lambda row: cast(float, row["ms a step"]))
        yield {**slowest, "nodes": number, "images a second": total}


def _one_node(chosen: argparse.Namespace, barrier, found) -> None:  # type: ignore[no-untyped-def]  # of multiprocessing
    torch.set_num_threads(1)
    trainer = Trainer(config_of(chosen, "auto"), chosen.steps, chosen.device)
    trainer.train()
    barrier.wait()
    found.put(_timed(trainer, {"what": "nodes at once", "precision": "auto", "compiled": "False", "nodes": 1}))


def _timed(trainer: Trainer, row: Row) -> Row:
    is_cuda = trainer.device.type == "cuda"
    if is_cuda:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    started = time.perf_counter()
    result = trainer.train(2)
    seconds = time.perf_counter() - started
    return _row(
        {
            **row,
            "ms a step": 1000 * seconds / result.num_steps,
            "images a second": result.num_losses / seconds,
            "peak MiB": torch.cuda.max_memory_allocated() / 2**20 if is_cuda else None,
            "loss": result.loss_sum / result.num_losses,
        }
    )


def _row(values: Row) -> Row:
    row = {name: values.get(name, "") for name in COLUMNS}
    print("; ".join(f"{name} {value}" for name, value in row.items() if value != ""), flush=True)
    return row


def measure(chosen: argparse.Namespace) -> Iterator[Row]:
    """Measure all three."""
    yield from speed(chosen)
    yield from rounds(chosen)
    yield from nodes(chosen)


def main() -> None:
    """Read the arguments and measure."""
    arguments = parser(__doc__)
    arguments.add_argument("--recipe", default="fashion-mnist", help="(default: fashion-mnist)")
    arguments.add_argument("--image-size", type=int, default=0, help="0: the recipe's")
    arguments.add_argument("--batch-size", type=int, default=0, help="0: the recipe's")
    arguments.add_argument("--steps", type=int, default=30, help="of an epoch (default: 30)")
    arguments.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4], help="processes at once")
    arguments.add_argument("--compile", action="store_true", help="measure torch.compile as well")
    arguments.add_argument("--device", default="cuda", help="(default: cuda)")
    run(measure, arguments.parse_args())


if __name__ == "__main__":
    main()
