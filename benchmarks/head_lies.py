"""Lies of one site in the last round: in the images it describes, its moments, and its measurement of heads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_app.metrics.classification import score_sums
from fl_app.metrics.intervals import patient_sums
from fl_app.metrics.paired import joint_bins, paired_counts

Sums = dict[str, NDArray[Any]]
Change = Callable[[Sums], Sums]

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


def towards_others(part: float) -> Change:
    """Return a change that moves each class's mean this part of the way to the next class's; the scatter stays."""

    def change(moments: Sums) -> Sums:
        count = moments["count"][:, None]
        means = moments["sum"] / np.maximum(count, 1.0)
        held = np.flatnonzero(moments["count"])
        moved = means.copy()
        moved[held] = (1.0 - part) * means[held] + part * means[np.roll(held, 1)]
        outer = moments["outer"] - (means * count).T @ means + (moved * count).T @ moved
        return {**moments, "sum": moved * count, "outer": outer}

    return change


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


def marks(right: Callable[[str], float], repeat: int = 1, distance: int | None = None) -> Change:
    """Return a change of the measurement of heads: each is right as often as is claimed, else it names the next class.

    Args:
        right: the claimed share of right images of each head, from 0 to 1.
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


def _scores(labels: NDArray[np.int64], num_classes: int, share: float) -> NDArray[np.float64]:
    luck = (np.random.default_rng(0).permutation(len(labels)) + 0.5) / max(len(labels), 1)
    named = np.where(luck < share, labels, (labels + 1) % num_classes)
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


def _all_but_linear(head: str) -> float:
    return float(head != "linear")


def _only(name: str, share: float = 1.0, others: float = 0.0) -> Callable[[str], float]:
    return lambda head: share if head == name else others


def _billion(counts: list[int]) -> list[int]:
    return [_MANY] * len(counts)


_PERFECT = "perfect marks for prototypes"

LIES: dict[str, Lie] = {
    "none": Lie(),
    f"described a billion images a class: sums of other classes, {_PERFECT}": Lie(
        _billion, as_many, marks(_all_but_linear, repeat=10**6)
    ),
    "described a billion images a class: perfect marks for cosine alone": Lie(
        _billion, dict, marks(_only("cosine"), repeat=10**6)
    ),
    "described a billion images a class: perfect marks for linear alone": Lie(
        _billion, dict, marks(_only("linear"), repeat=10**6)
    ),
    f"sums of other classes, {_PERFECT}": Lie(None, other_classes, marks(_all_but_linear)),
    f"class means halfway to other classes, {_PERFECT}": Lie(None, towards_others(0.5), marks(_all_but_linear)),
    f"class means a quarter of the way to other classes, {_PERFECT}": Lie(
        None, towards_others(0.25), marks(_all_but_linear)
    ),
    f"sums 1.25 times too large, {_PERFECT}": Lie(None, times(1.25), marks(_all_but_linear)),
    f"embeddings that scatter 3 times as much, {_PERFECT}": Lie(None, scattered(3.0), marks(_all_but_linear)),
    f"all images in one class, {_PERFECT}": Lie(_all_of, in_one_class, marks(_all_but_linear)),
    "perfect marks for linear alone": Lie(None, dict, marks(_only("linear"))),
    "perfect marks for cosine alone": Lie(None, dict, marks(_only("cosine"))),
    "marks of 0.8 for cosine, 0.6 for all others": Lie(None, dict, marks(_only("cosine", 0.8, 0.6))),
    "marks of 0.8 for linear, 0.6 for all others": Lie(None, dict, marks(_only("linear", 0.8, 0.6))),
    "no marks at all": Lie(None, dict, lambda sums: {}),
    "all distances 0": Lie(None, dict, far(0)),
    "all distances infinite": Lie(None, dict, far(-1)),
    "false likelihoods": Lie(None, dict, unsure),
}
