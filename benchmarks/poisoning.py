"""What one poisoning site of five costs, by attack and strategy.

Fashion-MNIST, 2,000 images shared out evenly, four rounds of two epochs, through the real server and the real nodes
with the default checks. The last site attacks in every round, or in the one that is named. Two accuracies on all 10,000
test images: of the exported classifier, and of the averaged network's own layer.
"""

import argparse
import contextlib
import dataclasses
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from flwr.app import ConfigRecord, Message, MetricRecord

from benchmarks.head_lies import marks, other_classes
from benchmarks.local_grid import run_federation
from benchmarks.models import default_config
from benchmarks.output import Row, parser, run
from fl_app.classification.model import read_classifier
from fl_app.classification.prediction import classify
from fl_app.data.sources import load_parts
from fl_app.messages.arrays import Weights, pack, unpack
from fl_app.messages.records import DESCRIBE, HEADS, MOMENTS, TRAIN, read_instruction
from fl_app.node import answering
from fl_app.node.images import LocalData, load_local
from fl_app.options.run import RunConfig
from fl_app.runs.folder import RunFolder, read_status

_SITES = 5
_LIAR = _SITES - 1
_MANY = 10**6  # images of each class
_LARGE = 1e5

Update = Callable[[Weights, Weights, int], Weights]  # (received, trained, round) -> what the site sends


@dataclass(frozen=True)
class Attack:
    """What one site does.

    Attributes:
        update: changes its weights; None: honest ones.
        flips: whether it trains with the labels K - 1 - y.
        claims: whether it describes, and claims to have trained on, millions of images.
        lies: whether it lies in the last round: sums of other classes, perfect marks for the heads built from them.
    """

    update: Update | None = None
    flips: bool = False
    claims: bool = False
    lies: bool = False


def times(factor: float, only_round: int | None = None) -> Update:
    """Return an attack that multiplies the update, in every round or in one."""

    def change(received: Weights, trained: Weights, number: int) -> Weights:
        if only_round not in (None, number):
            return trained
        changed: Weights = {}
        for key, value in trained.items():
            before, after = received[key].astype(np.float64), value.astype(np.float64)
            changed[key] = (before + factor * (after - before)).astype(value.dtype)
        return changed

    return change


def all_large(received: Weights, trained: Weights, number: int) -> Weights:
    """Return weights that are all large in the first round."""
    return {key: np.full_like(value, _LARGE) for key, value in trained.items()} if number == 1 else trained


ATTACKS = {
    "none": Attack(),
    "label flip": Attack(flips=True),
    "sign flip": Attack(times(-1.0)),
    "sign flip, 2.9 times as long": Attack(times(-2.9)),
    "sign flip, 9 times as long": Attack(times(-9.0)),
    "round 1: update times -100": Attack(times(-100.0, only_round=1)),
    "round 1: every weight 100,000": Attack(all_large),
    "claims 10 million images": Attack(claims=True),
    "claims 10 million images, sign flip": Attack(times(-1.0), claims=True),
    "lies in the last round": Attack(lies=True),
    "sign flip, lies in the last round": Attack(times(-1.0), lies=True),
}
STRATEGIES: dict[str, dict[str, Any]] = {
    "FedAvg": {},
    "FedAvg, max-share 0.25": {"admission.max-share": 0.25},
    "FedAvg, max-update-norm-ratio 3": {"admission.max-update-norm-ratio": 3.0},
    "Krum": {"classification.strategy": "Krum"},
    "FedMedian": {"classification.strategy": "FedMedian"},
    "FedTrimmedAvg": {"classification.strategy": "FedTrimmedAvg"},
}


def measure(arguments: argparse.Namespace) -> Iterable[Row]:
    """Yield a row for each seed, strategy and attack."""
    logging.disable(logging.CRITICAL)
    for seed in arguments.seeds:
        for strategy in arguments.strategies:
            for name in arguments.attacks:
                with tempfile.TemporaryDirectory() as folder:
                    found = _measure_one(Path(folder), seed, STRATEGIES[strategy], ATTACKS[name])
                yield {"seed": seed, "strategy": strategy, "attack": name, **found}


def _measure_one(folder: Path, seed: int, strategy: dict[str, Any], attack: Attack) -> Row:
    config = _config(folder, seed, strategy)
    with _flipped_labels() if attack.flips else contextlib.nullcontext():
        run_federation(config, _SITES, meddle=_attacking(attack))
    images = load_parts(config.data, config.seed, ("train", "test"))["test"]
    classifier = read_classifier(folder / "run" / "classification" / "model")

    def accuracy(head: str) -> float:
        found = classify(classifier, images.images, head, torch.device("cpu"))
        return float((found.labels == images.labels.numpy()).mean())

    status = read_status(RunFolder(folder / "run"))
    return {
        "state": status.state,
        "rounds refused": status.nodes[f"site-{_LIAR}"].refused,
        "ships": classifier.shipped,
        "shipped": accuracy(classifier.shipped),
        "linear": accuracy("linear"),
    }


def _config(output: Path, seed: int, strategy: dict[str, Any]) -> RunConfig:
    return default_config(
        {
            "tasks": "classification",
            "output-dir": str(output),
            "run-name": "run",
            "seed": seed,
            "checkpoint-every": 4,
            "gallery-every": 0,
            "data.source": "fashion-mnist",
            "data.limit": 2000,
            "partition.scheme": "iid",
            "classification.num-rounds": 4,
            "classification.epochs": 2.0,
            "classification.embedding-size": 32,
            "classification.baselines": "",
            **strategy,
        }
    )


def _attacking(attack: Attack) -> Callable[[Message, Message], Message]:
    def meddle(instruction: Message, reply: Message) -> Message:
        kind, content = instruction.metadata.message_type, reply.content
        if instruction.metadata.dst_node_id % 1000 != _LIAR or reply.has_error():
            return reply
        if kind == DESCRIBE and attack.claims:
            node = dict(content.config_records["node"])
            node["train-counts"] = [_MANY] * len(node["train-counts"])  # type: ignore[arg-type]
            content["node"] = ConfigRecord(node)
        if kind == TRAIN and attack.claims:
            metrics = dict(content.metric_records["metrics"])
            content["metrics"] = MetricRecord({**metrics, "num-examples": 10.0 * _MANY})
        if kind == TRAIN and attack.update is not None:
            received = {key: value.numpy() for key, value in read_instruction(instruction).weights.items()}
            trained, number = unpack(content.array_records["weights"]), read_instruction(instruction).round_number
            content["weights"] = pack(attack.update(received, trained, number))
        if kind in (MOMENTS, HEADS) and attack.lies:
            sums = unpack(content.array_records["statistics"])
            changed = other_classes(sums) if kind == MOMENTS else marks(lambda head: head != "linear")(sums)
            content["statistics"] = pack({key: np.asarray(value, np.float64) for key, value in changed.items()})
        return reply

    return meddle


@contextlib.contextmanager
def _flipped_labels() -> Iterator[None]:
    """Let the attacking node see the labels K - 1 - y within the block."""

    def load(*words: Any) -> LocalData:
        found = load_local(*words)
        if found.site != f"site-{_LIAR}":
            return found
        parts = {
            part: dataclasses.replace(images, labels=len(images.class_names) - 1 - images.labels)
            for part in ("train", "validation")  # its share of the common test set is known
            for images in [getattr(found, part)]
        }
        return dataclasses.replace(found, **parts)

    with patch.object(answering, "load_local", load):
        yield


def main(words: Sequence[str] | None = None) -> None:
    """Read the arguments and measure."""
    arguments = parser(__doc__)
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the runs (default: 0 1 2)")
    arguments.add_argument("--strategies", nargs="+", choices=list(STRATEGIES), default=list(STRATEGIES))
    arguments.add_argument("--attacks", nargs="+", choices=list(ATTACKS), default=list(ATTACKS))
    run(measure, arguments.parse_args(words))


if __name__ == "__main__":
    main()
