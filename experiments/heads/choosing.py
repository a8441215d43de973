"""Which head ships: figures of heads, and the program's own choice by the sums that nodes send of held-out images."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from scipy.stats import rankdata

from experiments.heads.plan import LEVELS, MEASURES, PRIORS, Measure, Prior
from fl_app.classification.heads import Head, build_heads, predict
from fl_app.classification.measuring import HeadSet, blank_head_sums
from fl_app.classification.model import ClassifierModel
from fl_app.classification.selection import PrototypeMethod, Shipped, select
from fl_app.metrics.choosing import guess
from fl_app.metrics.classification import figures, score_sums, stretched_logits
from fl_app.metrics.intervals import patient_sums
from fl_app.metrics.paired import joint_bins, paired_counts
from fl_app.sums import Sums, add

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
Figures = dict[Measure, float]

_READING = "consistent"


@dataclass(frozen=True)
class Rule:
    """How the head that ships is chosen.

    Attributes:
        measure: option `classification.choose-by`.
        prior: option `classification.prior`.
        level: option `classification.choose-confidence`; 0: the best head.
    """

    measure: Measure
    prior: Prior
    level: float


RULES = tuple(Rule(measure, prior, level) for measure, prior, level in product(MEASURES, PRIORS, LEVELS))


def heads_under(classifier: ClassifierModel, prior: Prior) -> dict[str, Head]:
    """Return the heads of a classifier by name; the prior is that of `lda`."""
    return {"linear": classifier.heads["linear"], **build_heads(classifier.pooled, classifier.shrinkage, prior)[0]}


def judge(scores: Array, labels: Labels, shares: Mapping[int, float] | None = None) -> Figures:
    """Measure scores.

    Args:
        scores: [N, K].
        labels: [N].
        shares: weigh the images so that each class has such a share in the accuracy; None: as they are.

    Returns:
        By measure, shares; an AUC is not a number if no class has images on both sides.
    """
    is_right = predict(scores) == labels
    recall = {label: float(is_right[labels == label].mean()) for label in np.unique(labels).tolist()}
    accuracy = float(is_right.mean()) if shares is None else sum(shares[label] * recall[label] for label in recall)
    auc = _auc(stretched_logits(np.asarray(log_softmax(scores, axis=1))), labels)
    return {"accuracy": accuracy, "balanced-accuracy": float(np.mean(list(recall.values()))), "auc": auc}


def node_sums(scores: Mapping[str, Array], labels: Labels) -> dict[str, Array]:
    """Return what a node sends of its held-out images: additive sums, as `measuring.measure_heads` names them.

    Args:
        scores: [N, K] by head, `linear` among them.
        labels: [N].
    """
    num_classes = scores["linear"].shape[1]
    pairs = {head: ("global" if head == "linear" else _READING, head) for head in scores}
    sums = blank_head_sums(list(pairs.values()), num_classes, with_joint=True)
    linear = predict(scores["linear"]) == labels
    for head, found in scores.items():
        is_right, prefix = predict(found) == labels, f"validation/{'/'.join(pairs[head])}/"
        sums |= {prefix + key: value for key, value in score_sums(found, labels).items()}
        sums[prefix + "paired"] = paired_counts(is_right, linear, labels, num_classes)
        sums[prefix + "patients"] = patient_sums(None, is_right, linear)
        if head != "linear":
            sums[prefix + "joint"] = joint_bins(found, scores["linear"], labels)
    return {key: value for key, value in sums.items() if key.startswith("validation/")}


def split_sums(scores: Mapping[str, Array], labels: Labels, sites: Labels) -> dict[str, Sums]:
    """Return what each node sends, by its name.

    Args:
        scores: [N, K] by head.
        labels: [N].
        sites: [N], the number of the node that holds the image out.
    """
    return {
        f"site-{site}": node_sums({head: found[sites == site] for head, found in scores.items()}, labels[sites == site])
        for site in np.unique(sites).tolist()
    }


def choose(rule: Rule, heads: Mapping[str, Head], sites: Mapping[str, Sums]) -> Shipped:
    """Return what the program ships under a rule.

    Args:
        rule: the options.
        heads: by name, under the rule's prior.
        sites: from `split_sums`.
    """
    num_classes, size = heads["linear"].weight.shape
    method = PrototypeMethod(num_classes, size, prior=rule.prior, choose_by=rule.measure, choose_confidence=rule.level)
    others = {name: head for name, head in heads.items() if name != "linear"}
    by_source = {"global": {"linear": heads["linear"]}, _READING: others}
    no_prototype = np.zeros(num_classes, dtype=np.bool_)  # no limit of distances is asked for
    head_set = HeadSet(by_source, np.zeros((num_classes, size)), no_prototype, with_joint=rule.measure == "auc")
    return select(method, head_set, (), add(sites.values()), sites).shipped


def is_guess(measure: Measure, sites: Mapping[str, Sums]) -> bool:
    """Tell whether `linear` is no better on held-out images than always naming one class."""
    prefix = "validation/global/linear/"
    total = add(sites.values())
    found = figures({key.removeprefix(prefix): value for key, value in total.items() if key.startswith(prefix)})
    return bool((found[measure] or 0.0) <= guess(found["support"], measure))


def _auc(values: Array, labels: Labels) -> float:
    """Return the AUC, one class against the rest, averaged over the classes with images on both sides.

    Args:
        values: [N, K], the larger, the likelier the class. For K = 2 only those of class 1 count.
        labels: [N].
    """
    num_classes = values.shape[1]
    found = []
    for label in [1] if num_classes == 2 else range(num_classes):
        is_class = labels == label
        members, rest = int(is_class.sum()), int((~is_class).sum())
        if members and rest:
            ranks = float(rankdata(values[:, label])[is_class].sum())
            found.append((ranks - members * (members + 1) / 2) / (members * rest))
    return float(np.mean(found)) if found else float("nan")
