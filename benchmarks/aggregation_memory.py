"""Peak memory of the server while it averages the replies of 5 and of 20 nodes, 23 million float32 weights each.

Ours is the real strategy over a grid that makes a reply only when it is pulled, as Flower's own grids do; for
comparison Flower's plain FedAvg gets the same replies as the list that it takes. Each measurement is a fresh process;
the peak is that of the process as the operating system tells it (ru_maxrss), the base is the peak before the first
reply: the imports and the global model.
"""

import argparse
import json
import logging
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator

import numpy as np
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp.strategy import FedAvg

from benchmarks.instant_grid import InstantGrid
from benchmarks.models import default_config
from benchmarks.output import Row, parser, run
from fl_app.data.images import DatasetInfo
from fl_app.diffusion.unet import build_unet
from fl_app.flower import identify
from fl_app.messages.arrays import Weights, array_record, to_numpy
from fl_app.messages.descriptions import SiteDescription, write_description
from fl_app.messages.records import DESCRIBE, NUM_EXAMPLES, TRAIN, WEIGHTS, Reply, write_reply
from fl_app.strategies.admission import Admission
from fl_app.strategies.attendance import Attendance
from fl_app.strategies.diffusion import DiffusionRounds
from fl_app.strategies.registry import combine
from fl_app.strategies.roster import Roster
from fl_app.strategies.setup import Setup, Unwatched
from fl_app.strategies.transport import PackedWire

_INFO = DatasetInfo(tuple(str(number) for number in range(10)), num_channels=3, image_size=32)
_CHANNELS = (128, 256, 256, 256)  # with 1 layer a level: 23.5 million weights, as many as the paper's network
_TARGET = 1.15


def measure(arguments: argparse.Namespace) -> list[Row]:
    """Measure both kinds at both numbers of nodes, each in a process of its own."""
    few, many = arguments.nodes
    rows = []
    for kind in ("ours", "FedAvg"):
        found = {nodes: _in_fresh_process(kind, nodes) for nodes in (few, many)}
        row: Row = {"strategy": kind}
        for nodes in (few, many):
            row[f"peak MB, {nodes} nodes"] = found[nodes]["peak"]
            row[f"above base, {nodes}"] = found[nodes]["peak"] - found[nodes]["base"]
        row[f"ratio {many}/{few}"] = found[many]["peak"] / found[few]["peak"]
        row["seconds a reply"] = found[many]["seconds"] / many
        row["target"] = _TARGET if kind == "ours" else None
        rows.append(row)
    return rows


def _in_fresh_process(kind: str, num_nodes: int) -> dict[str, float]:
    # A child's ru_maxrss starts at what its parent held when it forked: here only what the child imports anyway.
    command = [sys.executable, "-m", "benchmarks.aggregation_memory", "--kind", kind, "--nodes", str(num_nodes)]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return found


def aggregate(kind: str, num_nodes: int) -> dict[str, float]:
    """Average the replies of one round in this process.

    Returns:
        `base` and `peak` in MB, and `seconds` of the aggregation without the making of the replies.
    """
    logging.disable(logging.CRITICAL)
    identify(1, 1)
    weights = to_numpy(build_unet(_INFO, _CHANNELS, layers_per_block=1, mid_attention=True).state_dict())
    base = _peak()
    seconds = (_ours if kind == "ours" else _flowers)(weights, num_nodes)
    return {"base": base, "peak": _peak(), "seconds": seconds}


def _ours(weights: Weights, num_nodes: int) -> float:
    config = default_config()
    options = config.federation.model_copy(update={"min_nodes": num_nodes, "min_replies": num_nodes})
    watch = Unwatched()
    setup = Setup(
        task="diffusion",
        wire=PackedWire("diffusion", "benchmark", ""),
        sites=Attendance(Roster(_INFO, 60.0), options, watch),
        admission=Admission(config.admission),
        observer=watch,
        min_replies=num_nodes,
    )
    kind, flower = combine(DiffusionRounds, "FedAvg", config.strategy)
    strategy = kind(setup=setup, ema_horizon=3.0, **flower)
    grid = PullGrid(weights, num_nodes)
    started = time.perf_counter()
    strategy.start(grid, array_record(weights), 1)
    assert strategy.record.count("contributed") == num_nodes
    return time.perf_counter() - started - grid.seconds


def _flowers(weights: Weights, num_nodes: int) -> float:
    """Flower takes one record of arrays, by name, and one of metrics: the sums of our replies stay out."""
    replies = []
    for number in range(num_nodes):
        reply = _reply(weights, number, 1)
        kept = {WEIGHTS: array_record(reply.weights), "metrics": write_reply(reply)["metrics"]}
        message = Message(RecordDict(kept), dst_node_id=number + 1, message_type=TRAIN)
        replies.append(message)
    strategy = FedAvg(weighted_by_key=NUM_EXAMPLES, arrayrecord_key=WEIGHTS)
    started = time.perf_counter()
    arrays, _ = strategy.aggregate_train(1, replies)
    assert isinstance(arrays, ArrayRecord)
    return time.perf_counter() - started


def _reply(weights: Weights, number: int, round_number: int) -> Reply:
    """Make one node's reply: the weights it got and a small change of its own."""
    generator = np.random.default_rng(number)
    trained: Weights = {}
    for key, value in weights.items():
        change = np.float32(0.01) * generator.standard_normal(value.shape, dtype=np.float32)
        trained[key] = value.astype(np.float32) + change
    return Reply(_site(number), "diffusion", round_number, 100.0 + number, trained, loss_sum=1.0, num_losses=1.0)


def _site(number: int) -> str:
    return f"site-{number:02d}"


def _peak() -> float:
    """Return the largest resident size of this process so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


class PullGrid(InstantGrid):
    """A grid whose nodes answer at once, each reply made when it is pulled and not kept.

    Attributes:
        seconds: time spent making replies.
    """

    def __init__(self, weights: Weights, num_nodes: int) -> None:
        super().__init__(range(1, num_nodes + 1))
        self.weights = weights
        self.seconds = 0.0

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """Make the replies to messages, one at a time."""
        for key in message_ids:
            started = time.perf_counter()
            instruction = self.pending.pop(key)
            reply = Message(self._answer(instruction), reply_to=instruction)
            del instruction
            self.seconds += time.perf_counter() - started
            yield reply
            del reply

    def _answer(self, instruction: Message) -> RecordDict:
        number = instruction.metadata.dst_node_id - 1
        if instruction.metadata.message_type == DESCRIBE:
            counts = [1000] * len(_INFO.class_names)  # more than any reply says that it trained on
            return write_description(SiteDescription(_site(number), _INFO, counts, counts, counts))
        return write_reply(_reply(self.weights, number, 1))


def main() -> None:
    """Read the arguments and measure; with --kind, in this process."""
    arguments = parser(__doc__)
    arguments.add_argument("--nodes", type=int, nargs="+", default=[5, 20], help="two numbers of nodes (default: 5 20)")
    arguments.add_argument("--kind", choices=["ours", "FedAvg"], help=argparse.SUPPRESS)
    found = arguments.parse_args()
    if found.kind:
        print(json.dumps(aggregate(found.kind, found.nodes[0])))
    elif len(found.nodes) != 2:
        arguments.error("--nodes takes two numbers")
    else:
        run(measure, found)


if __name__ == "__main__":
    main()
