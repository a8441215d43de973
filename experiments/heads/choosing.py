"""Which head ships: figures of heads, how sure a difference is, and the rules that choose."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from scipy.stats import norm, rankdata

from experiments.heads.plan import LEVELS, MEASURES, PRIORS, Measure, Prior
from fl_app.classification.bundle import Bundle
from fl_app.classification.heads import HEADS, Head, build_heads
from fl_app.metrics.classification import stretched_logits

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """How the head that ships is chosen.

    Attributes:
        measure: the figure on held-out images that counts.
        prior: of `lda`.
        level: two-sided, of the paired interval of the difference to `linear` that must lie above 0; 0: the best head.
    """

    measure: Measure
    prior: Prior
    level: float


RULES = tuple(Rule(measure, prior, level) for measure, prior, level in product(MEASURES, PRIORS, LEVELS))


@dataclass(frozen=True, eq=False)
class Judged:
    """What a head reaches on N images.

    Attributes:
        labels: [N] int64.
        is_right: [N] bool.
        auc_parts: [N], what each image adds to the AUC; not a number if no class has images on both sides.
        figures: by measure, shares; not a number if not defined.
    """

    labels: NDArray[np.int64]
    is_right: NDArray[np.bool_]
    auc_parts: Array
    figures: dict[Measure, float]


def heads_under(bundle: Bundle, prior: Prior) -> dict[str, Head]:
    """Return the heads of a classifier by name; the prior is that of `lda`."""
    heads = {"linear": bundle.heads["linear"], **build_heads(bundle.pooled, bundle.shrinkage)[0]}
    if prior == "equal" and "lda" in heads:
        count = bundle.pooled["count"]
        training = np.log(np.where(count > 0, count, 1.0) / count.sum())
        heads["lda"] = Head(heads["lda"].weight, heads["lda"].bias - training)
    return heads


def judge(scores: Array, labels: NDArray[np.int64], shares: Mapping[int, float] | None = None) -> Judged:
    """Measure scores.

    Args:
        scores: [N, K].
        labels: [N].
        shares: weigh the images so that each class has such a share in the accuracy; None: as they are.
    """
    is_right = np.argmax(scores, axis=1) == labels
    recall = {label: float(is_right[labels == label].mean()) for label in np.unique(labels).tolist()}
    accuracy = float(is_right.mean()) if shares is None else sum(shares[label] * recall[label] for label in recall)
    parts = auc_parts(stretched_logits(np.asarray(log_softmax(scores, axis=1))), labels)
    auc = float(parts.sum())
    balanced = float(np.mean(list(recall.values())))
    return Judged(labels, is_right, parts, {"accuracy": accuracy, "balanced-accuracy": balanced, "auc": auc})


def auc_parts(values: Array, labels: NDArray[np.int64]) -> Array:
    """Return what each image adds to the AUC, one class against the rest, averaged over the classes: [N].

    They add up to the AUC: each image gets half of what its pairs add (DeLong et al. 1988).

    Args:
        values: [N, K], the larger, the likelier the class. For K = 2 only those of class 1 count.
        labels: [N].
    """
    num_classes = values.shape[1]
    classes = [1] if num_classes == 2 else range(num_classes)
    found = [
        _pair_shares(values[:, label], labels == label)
        for label in classes
        if 0 < (labels == label).sum() < len(labels)
    ]
    return 0.5 * np.mean(found, axis=0) if found else np.full(len(labels), np.nan)


def standard_error(measure: Measure, ours: Judged, theirs: Judged) -> float:
    """Return the standard error of the difference of two heads on the same images.

    Accuracy: McNemar's, sqrt(b + c - (b - c)^2 / n) / n with b and c images that only one head gets right. Balanced
    accuracy: the same in each class. AUC: DeLong's, for several classes with the sum of what an image adds to each.
    """
    labels = ours.labels
    if measure == "auc":
        change = 2.0 * (ours.auc_parts - theirs.auc_parts)
        return float(np.sqrt(sum(_spread(change[labels == label], 1) for label in np.unique(labels))))
    change = ours.is_right.astype(np.float64) - theirs.is_right
    if measure == "accuracy":
        return float(np.sqrt(_spread(change, 0)) / len(change))
    groups = [change[labels == label] for label in np.unique(labels)]
    return float(np.sqrt(sum(_spread(group, 0) / len(group) ** 2 for group in groups)) / len(groups))


def choose(rule: Rule, judged: Mapping[str, Judged]) -> str:
    """Return the head that a rule ships, by what each reaches on held-out images; `judged` are those of its prior."""

    def rank(name: str) -> tuple[float, float, int]:
        figures = judged[name].figures
        return -figures[rule.measure], -figures["auc"], HEADS.index(name)

    linear = judged["linear"]
    if np.isnan(linear.figures[rule.measure]):
        return "linear"
    if rule.level == 0.0:
        return min(judged, key=rank)
    width = float(norm.ppf(0.5 + rule.level / 2))
    better = [
        name
        for name, other in judged.items()
        if other.figures[rule.measure] - linear.figures[rule.measure]
        > width * standard_error(rule.measure, other, linear)
    ]
    return min(better, key=rank, default="linear")


def _pair_shares(values: Array, is_class: NDArray[np.bool_]) -> Array:
    """Return, of each image, the share of its pairs with the other side in the right order, over its side's size."""
    ranks, shares = rankdata(values), np.empty(len(values))
    for side, sign in ((is_class, 1.0), (~is_class, -1.0)):
        num_here, num_there = side.sum(), (~side).sum()
        below = (ranks[side] - rankdata(values[side])) / num_there
        shares[side] = (below if sign > 0 else 1.0 - below) / num_here
    return shares


def _spread(change: Array, lost: int) -> float:
    """Return the sum of squares around the mean, times n / (n - lost)."""
    return float(((change - change.mean()) ** 2).sum()) * len(change) / max(len(change) - lost, 1)
