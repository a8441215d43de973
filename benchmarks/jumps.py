"""How far do honest weights move? The figures behind the constants of `fl_app/node/history.py`.

Trains a task of a recipe by each strategy, with simulated nodes, and looks at all weights that a node receives. A step
is the distance between two sets of weights that a node receives one after the other, divided by the rounds between
them. What a node has seen are earlier steps and its own updates.

    python -m benchmarks.jumps --recipe demo --nodes 5
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flwr.app import Message
from torch import Tensor

from benchmarks.false_refusals import STRATEGIES
from benchmarks.local_grid import run_federation
from benchmarks.models import default_config
from benchmarks.output import Row, parser, run
from fl_app.messages.arrays import to_tensors, unpack
from fl_app.messages.records import CONFIG, DESCRIBE, EVALUATE, TRAIN, WEIGHTS
from fl_app.node.distances import distance, length
from fl_app.options.run import RunConfig
from fl_app.simulation.app import read_recipe

_ROOT = Path(__file__).parents[1]


class Watched:
    """The largest figures of all messages of a run."""

    def __init__(self, config: RunConfig, task: str) -> None:
        self.num_rounds = config.pass_named(task).options.num_rounds
        self.last: dict[int, tuple[int, dict[str, Tensor]]] = {}
        self.first: dict[str, Tensor] = {}
        self.longest: dict[int, float] = {}
        self.step_to_seen = self.step_to_length = self.update_to_length = self.way_to_length = 0.0

    def see(self, instruction: Message, reply: Message) -> Message:
        """Take in a message and its answer, which is returned."""
        kind, node = instruction.metadata.message_type, instruction.metadata.dst_node_id
        if kind == DESCRIBE or reply.has_error():
            return reply
        weights = to_tensors(unpack(instruction.content.array_records[WEIGHTS]))
        number = int(str(instruction.content.config_records[CONFIG]["server-round"]))
        rounds_done = {TRAIN: number - 1, EVALUATE: self.num_rounds}.get(kind, number)
        self.first = self.first or weights
        self.way_to_length = max(self.way_to_length, distance(weights, self.first) / length(self.first))
        if node in self.last:
            before, earlier = self.last[node]
            step = distance(weights, earlier) / max(1, abs(rounds_done - before))
            if self.longest.get(node):
                self.step_to_seen = max(self.step_to_seen, step / self.longest[node])
            self.step_to_length = max(self.step_to_length, step / length(earlier))
            self.longest[node] = max(self.longest.get(node, 0.0), step)
        self.last[node] = rounds_done, weights
        if kind == TRAIN:
            update = distance(to_tensors(unpack(reply.content.array_records[WEIGHTS])), weights)
            self.update_to_length = max(self.update_to_length, update / length(weights))
            self.longest[node] = max(self.longest.get(node, 0.0), update)
        return reply


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each strategy."""
    for strategy in arguments.strategies.split(","):
        with tempfile.TemporaryDirectory() as folder:
            options = {
                **read_recipe(arguments.recipe, _ROOT),
                "tasks": arguments.task,
                "classification.baselines": "",
                f"{arguments.task}.strategy": strategy,
                "output-dir": folder,
                "run-name": "run",
            }
            config = default_config(options)
            watched = Watched(config, arguments.task)
            run_federation(config, arguments.nodes, meddle=watched.see)
        yield {
            "strategy": strategy,
            "step / longest seen": watched.step_to_seen,
            "step / length": watched.step_to_length,
            "own update / length": watched.update_to_length,
            "way of the run / length": watched.way_to_length,
        }


if __name__ == "__main__":
    own = parser(__doc__)
    own.add_argument("--recipe", default="demo", help="name of a recipe (default: demo)")
    own.add_argument("--task", default="classification", help="classification or diffusion (default: classification)")
    own.add_argument("--nodes", type=int, default=5, help="simulated nodes (default: 5)")
    own.add_argument("--strategies", default=",".join(STRATEGIES), help="comma-separated (default: all nine)")
    run(measure, own.parse_args())
