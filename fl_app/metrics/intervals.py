"""Confidence intervals of a classifier's figures, in closed form from sums that add up over nodes.

A figure is treated as the share of right images among m independent ones, where m gives this share the variance of the
figure. The figure's interval is Wilson's interval of the share. So an interval has a width at 0 and 1, too, and several
images of one patient count less than those of several patients. Franco et al. (Journal of Survey Statistics and
Methodology 7, 2019) compare such intervals for shares of clustered samples.

Images of one patient are similar, so n of them tell less than one image of each of n patients. Patient p has n_p
images, of them c_p right, and d_p = c_p minus the right ones of the linear head. Only six sums over patients leave a
site. They hold no label and no image, but sums of few patients may tell how many images each patient has and how many
are right. If patients are not known, each image counts as a patient.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fl_app.metrics.classification import auc_bins, figures
from fl_app.sums import Sums

Array = NDArray[np.float64]
Interval = tuple[float, float]

_PRIOR_WRONG = 1.0  # added images: see `design_effect`
_ADDED_ERRORS = 0.1  # wrong images, added to a variance so that it is not 0

# Positions in the sums below. The sums of n, c and d follow from the confusion matrices.
PATIENTS, NN, CC, NC, DD, ND = range(6)
NUM_SUMS = 6

# Sums over fewer patients could be traced back to single ones. All images of the hospital then count as one patient's:
# intervals get wider, and the sums reveal no more than the confusion matrices.
FEWEST_PATIENTS = 5


def intervals(sums: Sums, level: float = 0.95) -> dict[str, Interval | None]:
    """Return the confidence intervals of figures.

    The sums do not show how the AUCs of several classes are correlated. The variance of their mean is assumed to be
    twice that of independent ones.

    Args:
        sums: added sums; with `patients` from `patient_sums`, or without if all images are independent.
        level: of confidence.

    Returns:
        `accuracy`, `balanced-accuracy`, `auc`, `macro-f1`; None if a figure is not defined.
    """
    found = figures(sums)
    confusion = sums["confusion"]
    if found["n"] == 0:
        return dict.fromkeys(("accuracy", "balanced-accuracy", "auc", "macro-f1"))
    share = share_of_scores = 1.0  # how many independent images one image is worth
    if "patients" in sums:
        patients, num_images, num_right = sums["patients"], float(confusion.sum()), float(np.trace(confusion))
        effect = design_effect(patients, num_images, num_right, num_right, CC, _PRIOR_WRONG)
        degrees = degrees_factor(level, num_images, float(patients[PATIENTS])) ** 2
        share = 1.0 / (effect * degrees)
        share_of_scores = 1.0 / (effect_on_scores(effect, float(patients[NN]) / num_images) * degrees)
    recall_images, f1_images = _confusion_images(confusion, found["macro-f1"])
    images = {
        "accuracy": float(found["n"]),
        "balanced-accuracy": recall_images,
        "auc": _auc_images(found["auc"], auc_bins(sums)),
        "macro-f1": f1_images,
    }
    return {
        name: None
        if found[name] is None
        else wilson(found[name], (share_of_scores if name == "auc" else share) * worth, level)
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


def within_auc_interval(auc: float, sizes: Sequence[tuple[float, float]], level: float = 0.95) -> Interval | None:
    """Return the interval of a mean of AUCs, each of two samples of one site, weighted by m n / (m + n).

    It holds each AUC that is at most z of its own standard deviations away (Newcombe, Statistics in Medicine 25, 2006,
    method 5), with Hanley and McNeil's variance (Radiology 143, 1982), the two samples exchanged and averaged. That
    needs nothing but the sizes, so the interval is defined for one image, too, and long if there are few.

    Args:
        auc: the weighted mean.
        sizes: m and n of each site; a site in which one of them is 0 has no weight.
        level: of confidence.

    Returns:
        None if no site has images of both kinds.
    """
    m, n = np.array([pair for pair in sizes if min(pair) > 0], dtype=np.float64).reshape(-1, 2).T
    if m.size == 0:
        return None
    weight = m * n / (m + n)
    squares = (weight / weight.sum()) ** 2 / (m * n)
    z = float(special.ndtri(0.5 + level / 2.0))

    def is_inside(true: float) -> bool:
        both = true / (2.0 - true) + 2.0 * true**2 / (1.0 + true) - 2.0 * true**2
        variance = squares @ (true * (1.0 - true) + ((m + n) / 2.0 - 1.0) * both)
        return bool((auc - true) ** 2 <= z**2 * variance)

    ends = []
    for outside in (0.0, 1.0):
        inside = auc
        for _ in range(50):
            middle = (inside + outside) / 2.0
            inside, outside = (middle, outside) if is_inside(middle) else (inside, middle)
        ends.append(inside)
    return ends[0], ends[1]


def _worth(figure: float, variance: float, at_one: float) -> float:
    """Return how many images give a share this variance; `at_one` if the share is 0 or 1 and has no variance."""
    added = _ADDED_ERRORS / at_one
    return (figure * (1.0 - figure) + added) / (variance + added / at_one)


def _variance_of_mean(values: Array, counts: Array) -> float:
    number = counts.sum()
    mean = (counts * values).sum() / number
    return float((counts * (values - mean) ** 2).sum() / max(number - 1.0, 1.0) / number)


def patient_sums(
    patients: NDArray[np.int64] | None,
    is_right: NDArray[np.bool_],
    linear: NDArray[np.bool_],
    fewest: int = FEWEST_PATIENTS,
) -> Array:
    """Compute the sums over the patients of a whole set of images.

    Args:
        patients: [N], equal numbers for images of one patient; None: each image is of another patient.
        is_right: [N], whether the head is right.
        linear: [N], whether the linear head is right.
        fewest: with fewer patients, all images count as one patient's; 1 if there is nothing to keep private.

    Returns:
        [6], whole numbers: the number of patients, and the sums of n_p^2, c_p^2, n_p c_p, d_p^2 and n_p d_p.
    """
    if len(is_right) == 0:
        return np.zeros(NUM_SUMS)
    unit_of = np.arange(len(is_right)) if patients is None else np.unique(patients, return_inverse=True)[1]
    if patients is not None and unit_of.max() + 1 < fewest:
        unit_of = np.zeros(len(is_right), dtype=np.int64)
    n = np.bincount(unit_of).astype(np.float64)
    c = np.bincount(unit_of, weights=is_right)
    d = c - np.bincount(unit_of, weights=linear)
    return np.array([len(n), n @ n, c @ c, n @ c, d @ d, n @ d])


def gram_matrices(sums: Array, num_images: float, num_right: float, difference: float) -> tuple[Array, Array]:
    """Return the Gram matrices of (1, n_p, c_p) and (1, n_p, d_p) over patients, [3, 3] each, positive semidefinite."""
    count, nn, cc, nc, dd, nd = sums
    right = np.array([[count, num_images, num_right], [num_images, nn, nc], [num_right, nc, cc]])
    won = np.array([[count, num_images, difference], [num_images, nn, nd], [difference, nd, dd]])
    return right, won


def design_effect(sums: Array, num_images: float, total: float, squares: float, products: int, prior: float) -> float:
    """Return the design effect of a share: its variance over that of as many independent images; at least 1.

    The share is the ratio of two sums over patients, y_p and n_p (Cochran, Sampling Techniques, 1977, 6.3 and 11.7).
    If few images differ, they tell little about how similar a patient's images are. So some images are added, in which
    all images of a patient are equal.

    Args:
        sums: from `patient_sums`.
        num_images: n, the sum of n_p.
        total: the sum of y_p.
        squares: the sum of the squares of each image's own value; equals `total` if the values are 0 and 1.
        products: `sums` holds y_p^2 at this position and n_p y_p right after it.
        prior: number of added images.
    """
    count, nn = float(sums[PATIENTS]), float(sums[NN])
    alike = nn / num_images
    if count < 2 or num_images < 2:
        return max(alike, 1.0)
    share = total / num_images
    residual = float(sums[products]) - 2.0 * share * float(sums[products + 1]) + share**2 * nn
    independent = (squares - share * total) * num_images / (num_images - 1.0)
    found = max(residual, 0.0) * count / (count - 1.0)
    return float(np.clip((found + prior * alike) / (independent + prior), 1.0, num_images))


def effect_on_scores(effect: float, images_of_patient: float) -> float:
    """Return the design effect on figures of scores, such as the AUC, from that on shares of right images.

    Two images of one patient are more alike in their scores than in whether they are right, since right or wrong is all
    that a threshold leaves of a score. Of normal scores with a correlation of r, cut in the middle, the two sides
    correlate by 2 asin(r) / pi (Sheppard, Philosophical Transactions A 192, 1899).

    Args:
        effect: from `design_effect`.
        images_of_patient: number of images of the patient of a random image.
    """
    if images_of_patient <= 1.0:
        return effect
    alike = min((effect - 1.0) / (images_of_patient - 1.0), 1.0)
    return 1.0 + (images_of_patient - 1.0) * float(np.sin(np.pi / 2.0 * alike))


def degrees_factor(level: float, num_images: float, num_patients: float) -> float:
    """Return how much longer an interval is if its variance is estimated from patients instead of images.

    This is the ratio of Student's quantiles (Korn and Graubard, Survey Methodology 24, 1998).
    """
    if num_patients < 2:
        return 1.0  # nothing was estimated
    quantiles = special.stdtrit(np.array([num_images, num_patients]) - 1.0, 0.5 + level / 2.0)
    return float(quantiles[1] / quantiles[0]) if quantiles[0] > 0 else 1.0
