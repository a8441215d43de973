"""What the shipped classifier reaches if one site of five lies in the last round, after honest training.

Each split and seed is trained once, through the real server and the real nodes. Then its last round is run again for
each lie, from a copy of the run folder. The accuracy is that of the exported classifier on the whole test set.
"""

import argparse
import contextlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import ConfigRecord, Message
from numpy.typing import NDArray

from benchmarks.local_grid import run_federation
from benchmarks.models import default_config
from benchmarks.output import Row, parser, run
from fl_app.classification.model import read_classifier
from fl_app.classification.prediction import classify
from fl_app.data.sources import load_parts
from fl_app.messages.arrays import pack, unpack
from fl_app.messages.records import DESCRIBE, HEADS, MOMENTS
from fl_app.metrics.classification import score_sums
from fl_app.metrics.intervals import patient_sums
from fl_app.metrics.paired import joint_bins, paired_counts
from fl_app.options.run import RunConfig

Sums = dict[str, NDArray[Any]]
Change = Callable[[Sums], Sums]

_SITES = 5
_LIAR = _SITES - 1
_MANY = 10**9
_SURE = 20.0  # score of the class that a made-up head names
_DISTANCES = ("validation/distance", "validation/picture-distance")


@dataclass(frozen=True)
class Lie:
    """What one site changes.

    Attributes:
        counts: images of each class that it describes, for the training and for the held-out part; None: the truth.
        moments: changes its moments.
        heads: changes its measurement of heads.
    """

    counts: Callable[[list[int]], list[int]] | None = None
    moments: Change = dict
    heads: Change = dict


def other_classes(moments: Sums) -> Sums:
    """Give each class the sums of the next one, scaled to its own count."""
    count = np.maximum(moments["count"], 1.0)
    means = moments["sum"] / count[:, None]
    return {**moments, "sum": np.roll(means, 1, axis=0) * moments["count"][:, None]}


def times(factor: float) -> Change:
    """Return a change that multiplies embeddings."""
    return lambda moments: {
        **moments,
        "sum": moments["sum"] * factor,
        "outer": moments["outer"] * factor**2,
    }


def scattered(factor: float) -> Change:
    """Return a change that lets embeddings scatter more around their class's mean, equally in all directions."""

    def change(moments: Sums) -> Sums:
        of_means = (moments["sum"] ** 2).sum(axis=1) / np.maximum(moments["count"], 1.0)
        scatter = float(np.trace(moments["outer"]) - of_means.sum())
        size = len(moments["outer"])
        return {**moments, "outer": moments["outer"] + (factor - 1.0) * scatter / size * np.eye(size)}

    return change


def as_many(moments: Sums) -> Sums:
    """Count a billion images of each class, with the sums of the next one."""
    count = np.full_like(moments["count"], _MANY)
    means = np.roll(moments["sum"] / np.maximum(moments["count"], 1.0)[:, None], 1, axis=0)
    scale = count.sum() / moments["count"].sum()
    return {
        **moments,
        "count": count,
        "sum": means * count[:, None],
        "outer": moments["outer"] * scale * 4.0,
        "picture": moments["picture"] * scale,
    }


def in_one_class(moments: Sums) -> Sums:
    """Count all images in the first class, with the mean of all classes."""
    count, total = np.zeros_like(moments["count"]), np.zeros_like(moments["sum"])
    count[0], total[0] = moments["count"].sum(), moments["sum"].sum(axis=0)
    return {**moments, "count": count, "sum": total}


def marks(right: Callable[[str], bool], repeat: int = 1, distance: int | None = None) -> Change:
    """Return a change of the measurement of heads: each is always right, or always names the next class.

    Args:
        right: tells it of each head.
        repeat: how many times each image is counted.
        distance: bin that all held-out images lie in; None: the truth.
    """

    def change(sums: Sums) -> Sums:
        changed = dict(sums)
        heads = [key.removesuffix("confusion") for key in sums if key.startswith("validation") and "confusion" in key]
        per_class = sums["validation/global/linear/confusion"].sum(axis=1).astype(int)
        labels = np.repeat(np.arange(len(per_class)), per_class)
        scores = {prefix: _scores(labels, len(per_class), right(prefix.split("/")[2])) for prefix in heads}
        linear = scores["validation/global/linear/"]
        for prefix, found in scores.items():
            hits = [values.argmax(axis=1) == labels for values in (found, linear)]
            made = score_sums(found, labels)
            made["paired"] = paired_counts(hits[0], hits[1], labels, len(per_class))
            made["patients"] = patient_sums(None, *hits)
            if f"{prefix}joint" in sums:
                made["joint"] = joint_bins(found, linear, labels)
            changed |= {prefix + key: value * repeat for key, value in made.items()}
        for key in _DISTANCES:
            counts = sums[key] * repeat
            if distance is not None:
                counts = np.zeros_like(counts)
                counts[distance] = len(labels) * repeat
            changed[key] = counts
        return changed

    return change


def _scores(labels: NDArray[np.int64], num_classes: int, is_right: bool) -> NDArray[np.float64]:
    named = labels if is_right else (labels + 1) % num_classes
    return _SURE * np.eye(num_classes)[named]


def far(position: int) -> Change:
    """Return a change that puts all held-out images into one bin of distances."""

    def change(sums: Sums) -> Sums:
        moved = {key: np.zeros_like(sums[key]) for key in _DISTANCES}
        for key, counts in moved.items():
            counts[position] = sums[key].sum()
        return {**sums, **moved}

    return change


def unsure(sums: Sums) -> Sums:
    """Say that every head costs as much as it can, but at the highest temperature."""
    changed = dict(sums)
    for key, value in sums.items():
        if key.endswith("/nll-tempered"):
            prefix = key.removesuffix("nll-tempered")
            tempered = np.full_like(value, 1e4 * float(sums[f"{prefix}nll-count"]))
            tempered[-1] = 0.0
            changed |= {key: tempered, f"{prefix}nll": tempered[0]}
    return changed


def _all_of(counts: list[int]) -> list[int]:
    return [sum(counts), *counts[1:]]


def _prototypes(head: str) -> bool:
    return head != "linear"


LIES: dict[str, Lie] = {
    "none": Lie(),
    "described a billion images a class: sums of other classes, perfect marks": Lie(
        lambda counts: [_MANY] * len(counts), as_many, marks(_prototypes, repeat=10**6)
    ),
    "described a billion images a class, true sums: perfect marks for nearest-mean alone": Lie(
        lambda counts: [_MANY] * len(counts), dict, marks(lambda head: head == "nearest-mean", repeat=10**6)
    ),
    "described a billion images a class, true sums: perfect marks for linear alone": Lie(
        lambda counts: [_MANY] * len(counts), dict, marks(lambda head: head == "linear", repeat=10**6)
    ),
    "sums of other classes, perfect marks for prototypes": Lie(None, other_classes, marks(_prototypes)),
    "sums of other classes, perfect marks for linear": Lie(None, other_classes, marks(lambda head: head == "linear")),
    "sums 10,000 times too large": Lie(None, times(1e4), marks(_prototypes)),
    "sums 1.4 times too large": Lie(None, times(1.4), marks(_prototypes)),
    "embeddings that scatter 3 times as much": Lie(None, scattered(3.0), marks(_prototypes)),
    "all images in one class, perfect marks for prototypes": Lie(_all_of, in_one_class, marks(_prototypes)),
    "perfect marks for linear alone": Lie(None, dict, marks(lambda head: head == "linear")),
    "perfect marks for cosine alone": Lie(None, dict, marks(lambda head: head == "cosine")),
    "no marks at all": Lie(None, dict, lambda sums: {}),
    "all distances 0": Lie(None, dict, far(0)),
    "all distances infinite": Lie(None, dict, far(-1)),
    "false likelihoods": Lie(None, dict, unsure),
}


def measure(arguments: argparse.Namespace) -> Iterable[Row]:
    """Yield a row for each split, seed and lie."""
    logging.disable(logging.CRITICAL)
    for split in arguments.splits:
        for seed in arguments.seeds:
            with tempfile.TemporaryDirectory() as folder:
                yield from _of_split(Path(folder), split, seed, arguments)


def _of_split(folder: Path, split: str, seed: int, arguments: argparse.Namespace) -> Iterable[Row]:
    config = _config(folder / "trained", split, seed, arguments.rounds)
    with contextlib.suppress(KeyboardInterrupt):
        run_federation(config, _SITES, meddle=_stop)
    images = load_parts(config.data, config.seed, ("train", "test"))["test"]
    for number, name in enumerate(arguments.lies or LIES):
        output = folder / str(number)
        shutil.copytree(folder / "trained", output)
        _redescribe(output / "run" / "run.json", LIES[name])
        again = _config(output, split, seed, arguments.rounds, resume=str(output / "run"))
        run_federation(again, _SITES, meddle=_lying(LIES[name]))
        classifier = read_classifier(output / "run" / "classification" / "model")
        found = classify(classifier, images.images, None, torch.device("cpu"))
        result = _result(output, arguments.rounds)
        yield {
            "split": split,
            "seed": seed,
            "lie": name,
            "refused": ", ".join(sorted(result["left-out"])) or "none",
            "ships": classifier.shipped,
            "accuracy": float((found.labels == images.labels.numpy()).mean()),
            "without a vote": _accuracy(result, result["shipped"]["without-vote"]),
            "abstains": float(found.abstain.mean()),
            "temperature": classifier.temperatures.get(classifier.shipped),
        }


def _config(output: Path, split: str, seed: int, num_rounds: int, resume: str = "") -> RunConfig:
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


def _accuracy(result: dict[str, Any], head: str) -> float:
    """Return what a head reaches on the test images of all sites that were not refused."""
    rows = [row for row in result["results"] if (row["head"], row["part"]) == (head, "test")]
    return float(rows[-1]["figures"]["accuracy"])


def main(words: Sequence[str] | None = None) -> None:
    """Read the arguments and measure."""
    arguments = parser(__doc__)
    arguments.add_argument("--splits", nargs="+", default=["iid", "dirichlet-0.1"], help="iid, or dirichlet-<alpha>")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the runs (default: 0)")
    arguments.add_argument("--rounds", type=int, default=4, help="rounds of training (default: 4)")
    arguments.add_argument("--lies", nargs="*", choices=list(LIES), help="which lies (default: all)")
    run(measure, arguments.parse_args(words))


if __name__ == "__main__":
    main()
