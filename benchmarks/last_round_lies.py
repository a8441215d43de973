"""What the shipped classifier reaches if one site of five lies in the last round, after honest training.

Each split and seed is trained once, through the real server and the real nodes. Then its last round is run again for
each lie, from a copy of the run folder. The accuracy is that of the exported classifier on the whole test set.
"""

import argparse
import contextlib
import itertools
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import ConfigRecord, Message

from benchmarks.head_lies import LIES, Lie
from benchmarks.local_grid import run_federation
from benchmarks.models import default_config
from benchmarks.output import Row, parser, run
from fl_app.classification.model import read_classifier
from fl_app.classification.prediction import classify
from fl_app.data.sources import load_parts
from fl_app.messages.arrays import pack, unpack
from fl_app.messages.records import DESCRIBE, HEADS, MOMENTS
from fl_app.options.run import RunConfig

_SITES = 5
_LIAR = _SITES - 1


def measure(arguments: argparse.Namespace) -> Iterable[Row]:
    """Yield a row for each split, seed and lie."""
    logging.disable(logging.CRITICAL)
    for strategy, split, seed in itertools.product(arguments.strategies, arguments.splits, arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            yield from _of_run(Path(folder), strategy, split, seed, arguments)


def _of_run(folder: Path, strategy: str, split: str, seed: int, arguments: argparse.Namespace) -> Iterable[Row]:
    config = _config(folder / "trained", strategy, split, seed, arguments.rounds)
    with contextlib.suppress(KeyboardInterrupt):
        run_federation(config, _SITES, meddle=_stop)
    images = load_parts(config.data, config.seed, ("train", "test"))["test"]
    for number, name in enumerate(arguments.lies or LIES):
        output = folder / str(number)
        shutil.copytree(folder / "trained", output)
        _redescribe(output / "run" / "run.json", LIES[name])
        again = _config(output, strategy, split, seed, arguments.rounds, resume=str(output / "run"))
        run_federation(again, _SITES, meddle=_lying(LIES[name]))
        classifier = read_classifier(output / "run" / "classification" / "model")
        found = classify(classifier, images.images, None, torch.device("cpu"))
        result = _result(output, arguments.rounds)
        yield {
            "strategy": strategy,
            "split": split,
            "seed": seed,
            "lie": name,
            "refused": ", ".join(sorted(result["left-out"])) or "none",
            "ships": classifier.shipped,
            "accuracy": float((found.labels == images.labels.numpy()).mean()),
            "linear": _accuracy(result, "linear"),
            "lead at sites left out": _left_out(result["left-out-heads"], result["shipped"]["head"]),
            "by all images": _accuracy(result, _by_all_images(result["shipped"]["differences"])),
            "abstains": float(found.abstain.mean()),
            "temperature": classifier.temperatures.get(classifier.shipped),
        }


def _config(output: Path, strategy: str, split: str, seed: int, num_rounds: int, resume: str = "") -> RunConfig:
    scheme, _, alpha = split.partition("-")
    changes: Mapping[str, Any] = {
        "tasks": "classification",
        "output-dir": str(output),
        "run-name": "run",
        "resume": resume,
        "seed": seed,
        "checkpoint-every": 1,
        "gallery-every": 0,
        "data.source": "fashion-mnist",
        "data.limit": 2000,
        "partition.scheme": scheme,
        "partition.alpha": float(alpha or 1.0),
        "classification.strategy": strategy,
        "strategy.num-malicious-nodes": 1,
        "classification.num-rounds": num_rounds,
        "classification.epochs": 2.0,
        "classification.embedding-size": 32,
    }
    return RunConfig.from_flat({**default_config().to_flat(), **changes})


def _stop(instruction: Message, reply: Message) -> Message | None:
    if instruction.metadata.message_type == MOMENTS:
        raise KeyboardInterrupt
    return reply


def _lying(lie: Lie) -> Callable[[Message, Message], Message | None]:
    def meddle(instruction: Message, reply: Message) -> Message | None:
        kind = instruction.metadata.message_type
        if instruction.metadata.dst_node_id % 1000 != _LIAR:
            return reply
        if kind == DESCRIBE and lie.counts is not None:
            node = dict(reply.content.config_records["node"])
            for part in ("train-counts", "validation-counts"):
                node[part] = lie.counts(list(node[part]))  # type: ignore[arg-type]
            reply.content["node"] = ConfigRecord(node)
        if kind in (MOMENTS, HEADS):
            sums = unpack(reply.content.array_records["statistics"])
            changed = (lie.moments if kind == MOMENTS else lie.heads)(sums)
            reply.content["statistics"] = pack({key: np.asarray(value, np.float64) for key, value in changed.items()})
        return reply

    return meddle


def _redescribe(path: Path, lie: Lie) -> None:
    """Let run.json say what the liar would have described when the run began."""
    if lie.counts is None:
        return
    document = json.loads(path.read_text(encoding="utf-8"))
    node = document["nodes"][f"site-{_LIAR}"]
    node |= {part: lie.counts(node[part]) for part in ("train", "validation")}
    path.write_text(json.dumps(document), encoding="utf-8")


def _result(output: Path, num_rounds: int) -> dict[str, Any]:
    path = output / "run" / "classification" / "prototypes" / f"round-{num_rounds:04d}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _left_out(found: dict[str, dict[str, float | None]] | None, head: str) -> float | None:
    """Return by how much a head exceeds `linear` at sites whose moments it lacks; None if that was not measured."""
    if found is None:
        return None
    own, linear = (found[name].get(head) for name in ("accuracy", "linear-accuracy"))
    return None if own is None or linear is None else own - linear


def _by_all_images(differences: Mapping[str, dict[str, float] | None]) -> str:
    """Return the head that all held-out images choose, whichever site they are of."""
    found = {head: one["value"] for head, one in differences.items() if one and min(one["value"], one["low"]) > 0}
    return max(found, key=lambda head: found[head], default="linear")


def _accuracy(result: dict[str, Any], head: str) -> float:
    """Return what a head reaches on the test images of all sites that were not refused."""
    rows = [row for row in result["results"] if (row["head"], row["part"]) == (head, "test")]
    return float(rows[-1]["figures"]["accuracy"])


def main(words: Sequence[str] | None = None) -> None:
    """Read the arguments and measure."""
    arguments = parser(__doc__)
    arguments.add_argument("--strategies", nargs="+", default=["FedAvg"], help="names (default: FedAvg)")
    arguments.add_argument("--splits", nargs="+", default=["iid", "dirichlet-0.1"], help="iid, or dirichlet-<alpha>")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the runs (default: 0)")
    arguments.add_argument("--rounds", type=int, default=4, help="rounds of training (default: 4)")
    arguments.add_argument("--lies", nargs="*", choices=list(LIES), help="which lies (default: all)")
    run(measure, arguments.parse_args(words))


if __name__ == "__main__":
    main()
