"""Confidence intervals of a classifier's figures, in closed form from sums that add up over nodes.

A figure is treated as the share of right images among m independent ones, where m gives this share the variance of the
figure. The figure's interval is Wilson's interval of the share. So an interval has a width at 0 and 1, too, and several
images of one patient count less than those of several patients. Franco et al. (Journal of Survey Statistics and
Methodology 7, 2019) compare such intervals for shares of clustered samples.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fl_app.metrics.classification import auc_bins, figures
from fl_app.metrics.patients import CC, PATIENTS, degrees_factor, design_effect
from fl_app.sums import Sums

Array = NDArray[np.float64]
Interval = tuple[float, float]

_PRIOR_WRONG = 1.0  # added images: see `design_effect`
_ADDED_ERRORS = 0.1  # wrong images, added to a variance so that it is not 0


def intervals(sums: Sums, level: float = 0.95) -> dict[str, Interval | None]:
    """Return the confidence intervals of figures.

    The sums do not show how the AUCs of several classes are correlated. The variance of their mean is assumed to be
    twice that of independent ones.

    Args:
        sums: added sums; with `patients` from `patients.patient_sums`, or without if all images are independent.
        level: of confidence.

    Returns:
        `accuracy`, `balanced-accuracy`, `auc`, `macro-f1`; None if a figure is not defined.
    """
    found = figures(sums)
    confusion = sums["confusion"]
    if found["n"] == 0:
        return dict.fromkeys(("accuracy", "balanced-accuracy", "auc", "macro-f1"))
    share = 1.0  # how many independent images one image is worth
    if "patients" in sums:
        patients, num_images, num_right = sums["patients"], float(confusion.sum()), float(np.trace(confusion))
        effect = design_effect(patients, num_images, num_right, num_right, CC, _PRIOR_WRONG)
        share = 1.0 / (effect * degrees_factor(level, num_images, float(patients[PATIENTS])) ** 2)
    recall_images, f1_images = _confusion_images(confusion, found["macro-f1"])
    images = {
        "accuracy": float(found["n"]),
        "balanced-accuracy": recall_images,
        "auc": _auc_images(found["auc"], auc_bins(sums)),
        "macro-f1": f1_images,
    }
    return {
        name: None if found[name] is None else wilson(found[name], share * worth, level)
        for name, worth in images.items()
    }


def wilson(share: float, num_images: float, level: float, is_plain: bool = False) -> Interval:
    """Return Wilson's interval of a share of independent images, made longer near 0 and 1.

    Near 0 and 1 Wilson's interval misses the true share too often. There the end next to 0 or 1 is that of a Poisson
    variable (Brown, Cai and DasGupta, Statistical Science 16, 2001, section 4.1.1).

    Args:
        share: of right images.
        num_images: need not be a whole number.
        level: of confidence.
        is_plain: return Wilson's own interval.
    """
    z = float(special.ndtri(0.5 + level / 2.0))
    center = (share + z**2 / (2.0 * num_images)) / (1.0 + z**2 / num_images)
    half = z * np.sqrt(share * (1.0 - share) / num_images + (z / (2.0 * num_images)) ** 2) / (1.0 + z**2 / num_images)
    low, high = float(center - half), float(center + half)
    few = 2.5 if num_images < 50.5 else 3.5
    right, wrong = num_images * share, num_images * (1.0 - share)
    if not is_plain and wrong < min(few, right):
        high = max(high, 1.0 - _poisson_low(wrong, level) / num_images)
    if not is_plain and right < min(few, wrong):
        low = min(low, _poisson_low(right, level) / num_images)
    return float(max(low, 0.0)), float(min(high, 1.0))


def _poisson_low(count: float, level: float) -> float:
    return 0.0 if count <= 0 else float(special.gammaincinv(count, 1.0 - level))


def _confusion_images(confusion: Array, f1: float) -> tuple[float, float]:
    """Return how many images the mean recall is worth, and how many the macro F1.

    Recall: a class whose few images are all right has no variance of its own, so half a right and half a wrong image
    are added to each class (Jeffreys' prior). F1: delta method (Takahashi et al., Applied Intelligence 52, 2022).
    """
    support, correct = confusion.sum(axis=1), np.diagonal(confusion)
    held = support > 0
    recall = (correct[held] + 0.5) / (support[held] + 1.0)
    mean = recall.mean()
    worth = mean * (1.0 - mean) / (recall * (1.0 - recall) / support[held]).sum() * len(recall) ** 2
    both = np.maximum(support + confusion.sum(axis=0), 1.0)
    weight = np.where(held, 2.0 * correct / both, 0.0) / both
    gradient = np.diag(np.where(held, 2.0, 0.0) / both) - weight[:, None] - weight[None, :]
    number = np.count_nonzero(held)
    variance = float((confusion * gradient**2).sum() / number**2)
    return float(worth), _worth(f1, variance, float(number**2 / (1.0 / support[held]).sum()))


def _auc_images(auc: float | None, bins: list[Array]) -> float:
    """Return how many images the mean AUC is worth.

    The variance of each class is DeLong's (Biometrics 44, 1988). It is 0 if the AUC is 1: then as in the score interval
    of Newcombe (Statistics in Medicine 25, 2006, method 5).
    """
    variances, at_one = [], []
    for rest, members in bins:
        num_rest, num_members = rest.sum(), members.sum()
        if min(num_rest, num_members) == 0:
            continue
        below = (np.cumsum(rest) - 0.5 * rest) / num_rest
        above = 1.0 - (np.cumsum(members) - 0.5 * members) / num_members
        variances.append(_variance_of_mean(below, members) + _variance_of_mean(above, rest))
        at_one.append((1.0 + (num_rest + num_members - 2.0) / 4.0) / (num_rest * num_members))
    if auc is None:
        return 0.0
    dependence = 1.0 if len(bins) == 1 else 2.0
    shared = dependence / len(variances) ** 2
    return _worth(auc, shared * sum(variances), 1.0 / (shared * sum(at_one)))


def _worth(figure: float, variance: float, at_one: float) -> float:
    """Return how many images give a share this variance; `at_one` if the share is 0 or 1 and has no variance."""
    added = _ADDED_ERRORS / at_one
    return (figure * (1.0 - figure) + added) / (variance + added / at_one)


def _variance_of_mean(values: Array, counts: Array) -> float:
    number = counts.sum()
    mean = (counts * values).sum() / number
    return float((counts * (values - mean) ** 2).sum() / max(number - 1.0, 1.0) / number)
