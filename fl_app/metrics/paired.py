"""Compares two heads on the same images, from sums that add up over nodes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fl_app.metrics.classification import NUM_SCORE_BINS, class_bins, figures, score_bins
from fl_app.metrics.intervals import DD, PATIENTS, degrees_factor, design_effect
from fl_app.sums import Sums

Array = NDArray[np.float64]

_FINE_BINS_EACH = 4  # of the AUC's bins make one here
NUM_BINS = (NUM_SCORE_BINS + _FINE_BINS_EACH - 1) // _FINE_BINS_EACH


@dataclass(frozen=True)
class Difference:
    """A head's figure minus the other one's, and its interval."""

    value: float
    low: float
    high: float


def paired_counts(is_right: NDArray[np.bool_], linear: NDArray[np.bool_], labels: NDArray[np.int64], k: int) -> Array:
    """Count the images that only one of two heads classifies correctly.

    Args:
        is_right: [B], whether the head is right.
        linear: [B], whether the linear head is right.
        labels: [B].
        k: number of classes.

    Returns:
        [K, 2]: by true class, images that only the head has right, and that only the linear head has right.
    """
    won = np.bincount(labels[is_right & ~linear], minlength=k)
    lost = np.bincount(labels[linear & ~is_right], minlength=k)
    return np.stack([won, lost], axis=1).astype(np.float64)


def joint_bins(scores: Array, linear: Array, labels: NDArray[np.int64]) -> Array:
    """Count images by the probabilities that both heads give each class, for the covariance of their AUCs.

    Args:
        scores: [B, K], of the head.
        linear: [B, K], of the linear head.
        labels: [B].

    Returns:
        [K, 2, C, C]: by class, whether the image is of it, bin of the linear head and bin of the head. C = NUM_BINS;
        a bin joins four bins of the `auroc` of `score_sums`.
    """
    num_classes = scores.shape[1]
    if len(scores) == 0:
        return np.zeros((num_classes, 2, NUM_BINS, NUM_BINS))
    bins = [score_bins(special.log_softmax(values, axis=1)) // _FINE_BINS_EACH for values in (linear, scores)]
    is_class = (labels[:, None] == np.arange(num_classes)).astype(np.int64)
    cells = ((np.arange(num_classes) * 2 + is_class) * NUM_BINS + bins[0]) * NUM_BINS + bins[1]
    counts = np.bincount(cells.ravel(), minlength=num_classes * 2 * NUM_BINS**2)
    return counts.reshape(num_classes, 2, NUM_BINS, NUM_BINS).astype(np.float64)


def coarse_bins(auroc: Array) -> Array:
    """Count the images of one head by the bins of `joint_bins`: [K, 2, C], from the `auroc` of `score_sums`."""
    fine = class_bins(auroc)
    padded = np.zeros((*fine.shape[:-1], NUM_BINS * _FINE_BINS_EACH))
    padded[..., : fine.shape[-1]] = fine
    return np.asarray(padded.reshape(*fine.shape[:-1], NUM_BINS, _FINE_BINS_EACH).sum(axis=-1))


def difference(head: Sums, linear: Sums, by: str, confidence: float) -> Difference | None:
    """Return a head's figure minus the linear head's, with a paired interval.

    Two images are added, one that only the head has right and one that only the linear head has right, so that a few
    images never decide. For accuracy this is the interval of Bonett and Price (Psychological Methods 17, 2012). If
    patients are known, the variance is multiplied by the design effect of the difference in accuracy.

    Args:
        head: added `score_sums` with `paired`, `patients` and, for `auc`, `joint`.
        linear: the linear head's, on the same images.
        by: accuracy, balanced-accuracy or auc.
        confidence: of the interval, from 0 to below 1; 0: no interval.

    Returns:
        None if the figure is not defined.
    """
    found = [figures(sums)[by] for sums in (head, linear)]
    if found[0] is None or found[1] is None:
        return None
    if confidence == 0:
        return Difference(found[0] - found[1], found[0] - found[1], found[0] - found[1])
    counts, support = head["paired"], head["confusion"].sum(axis=1)
    if by == "auc":
        center, variance = found[0] - found[1], _auc_variance(head["joint"])
    else:  # of accuracies or of mean recalls, with the added images
        if by == "accuracy":
            counts, support = counts.sum(axis=0, keepdims=True), support.sum(keepdims=True)
        counts, support = counts[support > 0], support[support > 0]
        number = len(support)
        won, lost = ((counts + 1.0 / number) / (support + 2.0 / number)[:, None]).T
        variances = (won + lost - (won - lost) ** 2) / (support + 2.0 / number)
        center, variance = float((won - lost).mean()), float(variances.sum()) / number**2
    won, lost = head["paired"].sum(axis=0)
    num_images = float(head["confusion"].sum())
    sums = head["patients"]
    effect = design_effect(sums, num_images, float(won - lost), float(won + lost), DD, prior=2.0)
    factor = degrees_factor(confidence, num_images, float(sums[PATIENTS]))
    half = float(special.ndtri(0.5 + confidence / 2.0)) * factor * float(np.sqrt(variance * effect))
    return Difference(found[0] - found[1], center - half, center + half)


def _auc_variance(joint: Array) -> float:
    """Return the variance of the difference of two mean AUCs (DeLong et al., Biometrics 44, 1988).

    Each class gets its part of two added images that the heads rank at random, and so does the rest beside it.
    The differences of several classes are assumed to be correlated as in `intervals`.
    """
    classes = [1] if len(joint) == 2 else range(len(joint))
    defined = [joint[label] for label in classes if joint[label].sum(axis=(1, 2)).min() > 0]
    added = 2.0 / len(defined)
    variances = []
    for rest, members in defined:
        below = [_ranks(rest.sum(axis=1 - head)) for head in (0, 1)]
        above = [1.0 - _ranks(members.sum(axis=1 - head)) for head in (0, 1)]
        variances.append(_variance(below, members, added) + _variance(above, rest, added))
    dependence = 1.0 if len(classes) == 1 else 2.0
    return dependence * float(sum(variances)) / len(variances) ** 2


def _ranks(counts: Array) -> Array:
    """Return the share of the images below each bin; those in the bin count half."""
    return np.asarray((np.cumsum(counts) - 0.5 * counts) / counts.sum())


def _variance(ranks: list[Array], counts: Array, added: float) -> float:
    """Return the variance of the mean difference of two heads' ranks; `counts`: images by bin of each head, [C, C]."""
    differences = ranks[1][None, :] - ranks[0][:, None]
    mean = (counts * differences).sum() / counts.sum()
    squares = (counts * (differences - mean) ** 2).sum() + added / 6.0  # two independent ranks have 1/12 each
    return float(squares / (counts.sum() + added) ** 2)
