"""Figures of a classifier from sums that add up over nodes, and what is wrong with sums that no images produce."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fl_app.errors import FlAppError
from fl_app.sums import ROUNDING, Sums, are_counts, mean

Array = NDArray[np.float64]

# Softmax outputs pile up at 0 and 1 (before training: at 1 / K), and scores that are squared distances differ by
# hundreds of nats, so that probabilities round to 1 in float64. So images are binned by the logit. Bins are narrow
# around the logit of 1 / K and grow with the distance from it.
_NUM_THRESHOLDS = 128
NUM_SCORE_BINS = _NUM_THRESHOLDS + 1  # the first one stays empty
_FINE_WITHIN = 0.3  # distance from the logit of 1 / K at which the bins start to grow
_LARGEST_LOGIT = 1000.0


# Scores are divided by these before the softmax, to calibrate a head (Guo et al. 2017).
TEMPERATURES = np.concatenate([np.geomspace(0.1, 1.0, 11)[:-1], np.geomspace(1.0, 1000.0, 31)])
MOST_NATS = 1e4  # the largest loss of one image
_COSTS = ("nll", "nll-tempered", "nll-runner-up")


def blank_scores(num_classes: int) -> dict[str, Array]:
    """Return the sums of `score_sums` for zero images.

    Returns:
        `confusion` [K, K], true times predicted; `auroc` [T, K, 2, 2], for each threshold and class the images by
        whether they are of the class and whether their stretched logit reaches the threshold; `nll` [] and
        `nll-count` []; `nll-tempered` [41], the same at each of TEMPERATURES; `nll-runner-up` [41], of the second
        best class instead of the right one, over the same images.
    """
    return {
        "confusion": np.zeros((num_classes, num_classes)),
        "auroc": np.zeros((_NUM_THRESHOLDS, num_classes, 2, 2)),
        "nll": np.zeros(()),
        "nll-count": np.zeros(()),
        "nll-tempered": np.zeros(len(TEMPERATURES)),
        "nll-runner-up": np.zeros(len(TEMPERATURES)),
    }


def score_sums(scores: Array, labels: NDArray[np.int64]) -> dict[str, Array]:
    """Return sums of how well scores agree with labels.

    Args:
        scores: [B, K]; the largest wins, the smallest class on ties; minus infinity for an excluded class.
            Probabilities are their softmax.
        labels: [B].

    Returns:
        Same keys as `blank_scores`. An image whose own class is excluded has an infinite negative log-likelihood; it
        is left out of `nll` and `nll-count`.

    Raises:
        FlAppError: a score is NaN, or an image has no finite score.
    """
    num_classes = scores.shape[1]
    sums = blank_scores(num_classes)
    if len(scores) == 0:
        return sums
    scores = np.asarray(scores, dtype=np.float64)
    if np.isnan(scores).any() or not np.isfinite(scores.max(axis=1)).all():
        raise FlAppError("A score is not finite: the network has diverged or its weights are damaged.")
    log_probabilities = np.asarray(special.log_softmax(scores, axis=1))
    np.add.at(sums["confusion"], (labels, np.argmax(scores, axis=1)), 1.0)
    # the state of torchmetrics' MulticlassAUROC, in a fiftieth of its time
    is_class = labels[:, None] == np.arange(num_classes)
    cells = (score_bins(log_probabilities) * num_classes + np.arange(num_classes)) * 2 + is_class
    counts = np.bincount(cells.ravel(), minlength=NUM_SCORE_BINS * num_classes * 2)
    counts = counts.reshape(NUM_SCORE_BINS, num_classes, 2)
    reaching = counts[::-1].cumsum(axis=0)[::-1][1:]
    sums["auroc"] += np.stack([counts.sum(axis=0) - reaching, reaching], axis=-1)
    _add_likelihoods(sums, log_probabilities, labels)
    return sums


def _add_likelihoods(sums: dict[str, Array], log_probabilities: Array, labels: NDArray[np.int64]) -> None:
    """Add the negative log-likelihoods, plain and at each temperature, to the sums of zero images."""
    rows, second = np.arange(len(labels)), max(log_probabilities.shape[1] - 2, 0)
    own = log_probabilities[rows, labels]
    is_finite = np.isfinite(own)
    sums["nll"] += _cost(own[is_finite])
    sums["nll-count"] += is_finite.sum()
    runner_up = log_probabilities[rows, np.argpartition(log_probabilities, second, axis=1)[:, second]]
    has_other = is_finite & np.isfinite(runner_up) & (log_probabilities.shape[1] > 1)
    for index, temperature in enumerate(TEMPERATURES):
        tempered = log_probabilities / temperature
        largest = tempered.max(axis=1)
        total = largest + np.log(np.exp(tempered - largest[:, None]).sum(axis=1))
        sums["nll-tempered"][index] += _cost((own / temperature - total)[is_finite])
        sums["nll-runner-up"][index] += _cost((runner_up / temperature - total)[has_other])


Figures = dict[str, Any]  # see `figures`; metrics of plug-ins add more


def score_fault(sums: Sums, described: Sequence[int] | None, kind: str = "held-out") -> str | None:
    """Return what is wrong with sums of `score_sums`; None if images could have produced them.

    Args:
        sums: of one classifier on a site's images.
        described: images of each class, as the site described them; with more, it would outweigh other sites. None:
            unknown.
        kind: of the images, for the message.
    """
    for key in ("confusion", "auroc", "nll-count"):
        if not are_counts(sums[key]):
            return f"its counts {key!r} are not whole numbers of at least 0"
    for key in _COSTS:
        if (sums[key] < 0).any():
            return f"its likelihoods {key!r} are not at least 0"
    found = sums["confusion"].sum(axis=1)
    if described is not None and (found > np.array(described)).any():
        return f"it measured more {kind} images than it said it holds"
    state = sums["auroc"].sum(axis=-1)  # [T, K, 2]: at each threshold all images
    is_whole = (state == np.stack([found.sum() - found, found], axis=-1)).all()
    is_falling = (np.diff(sums["auroc"][..., 1], axis=0) <= 0).all()
    if not is_whole or not is_falling:
        return "it measured its confusion matrix and its AUC on different images"
    count = float(sums["nll-count"])
    if count > found.sum():
        return "it measured the likelihoods of more images than there are"
    if max(float(sums[key].max()) for key in _COSTS) > count * MOST_NATS * (1.0 + ROUNDING):
        return "its likelihoods are smaller than any that are counted"
    plain, tempered = float(sums["nll"]), float(sums["nll-tempered"][TEMPERATURES == 1.0][0])
    if abs(plain - tempered) > ROUNDING * max(plain, 1.0):
        return "its likelihoods contradict one another"
    return None


def figures(sums: Sums) -> Figures:
    """Compute the figures of a classifier from added sums.

    Returns:
        `n` and `support` ([K]) in images; `accuracy`; `balanced-accuracy` and `macro-f1`, over the classes with
        support; `auc`, one class against the rest, averaged over the classes with images on both sides (K = 2: of
        class 1); `nll`, the mean negative log-likelihood in nats, over the images whose class is not excluded.
        A figure that is not defined is None. The AUC counts scores in one bin as ties.
    """
    confusion = sums["confusion"]
    correct, support = np.diagonal(confusion), confusion.sum(axis=1)
    f1 = _ratio(2.0 * correct, support + confusion.sum(axis=0))
    aucs = []  # the share of pairs in the right order, ties half
    for rest, members in auc_bins(sums):
        below = np.cumsum(rest) - 0.5 * rest
        aucs.append(_ratio((members * below).sum(), members.sum() * rest.sum()))
    return {
        "n": round(float(confusion.sum())),
        "support": [round(float(value)) for value in support],
        "accuracy": mean(correct.sum(), support.sum()),
        "balanced-accuracy": _mean_defined(_ratio(correct, support)),
        "auc": _mean_defined(np.array(aucs)),
        "macro-f1": _mean_defined(np.where(support > 0, f1, np.nan)),
        "nll": mean(float(sums["nll"]), float(sums["nll-count"])),
    }


def best_temperature(sums: Sums) -> float | None:
    """Return the one of TEMPERATURES that fits the images best; None if nothing was measured.

    One average image, of which the runner-up is right, is added to the measured ones. Without it, a few images that
    are all right would ask for certainty. With it, n images that are all right and equally clear give the right class
    the probability n / (n + 1), which is nearly Laplace's rule of succession.
    """
    count = float(sums["nll-count"])
    if count == 0:
        return None
    cost = sums["nll-tempered"] + sums["nll-runner-up"] / count
    is_best = cost <= cost.min() + 1e-9 * count
    return float(min(TEMPERATURES[is_best], key=lambda t: abs(np.log(t))))


def _cost(log_likelihoods: Array) -> float:
    return float(np.minimum(-log_likelihoods, MOST_NATS).sum())


def stretched_logits(log_probabilities: Array) -> Array:
    """Map probabilities to [0, 1], in the same order: asinh((logit p - logit 1/K) / _FINE_WITHIN), scaled linearly.

    Args:
        log_probabilities: [B, K], of a softmax.

    Returns:
        [B, K]; logits beyond _LARGEST_LOGIT are 0 or 1.
    """
    rows, best = np.arange(len(log_probabilities)), np.argmax(log_probabilities, axis=1)
    others = log_probabilities.copy()
    others[rows, best] = -np.inf
    rest = np.log1p(-np.minimum(np.exp(log_probabilities), 0.5))  # only the best one may exceed a half
    rest[rows, best] = special.logsumexp(others, axis=1)
    center = -np.log(max(log_probabilities.shape[1] - 1, 1))
    logits = np.clip(log_probabilities - rest, -_LARGEST_LOGIT, _LARGEST_LOGIT)
    low, high = (float(np.arcsinh((end - center) / _FINE_WITHIN)) for end in (-_LARGEST_LOGIT, _LARGEST_LOGIT))
    return np.asarray((np.arcsinh((logits - center) / _FINE_WITHIN) - low) / (high - low))


def score_bins(log_probabilities: Array) -> NDArray[np.int64]:
    """Return how many thresholds of the AUC each stretched logit reaches, [B, K]; `log_probabilities`: [B, K]."""
    thresholds = np.linspace(0.0, 1.0, _NUM_THRESHOLDS)
    return np.searchsorted(thresholds, stretched_logits(log_probabilities), side="right").astype(np.int64)


def auc_bins(sums: Sums) -> list[Array]:
    """Return the bins of each class that the AUC averages over, [2, T + 1] each: of two classes, only the second."""
    bins = class_bins(sums["auroc"])
    return list(bins[1:] if len(bins) == 2 else bins)


def class_bins(auroc: Array) -> Array:
    """Count images by class, by whether they are of it, and by the bin of its probability: [K, 2, T + 1]."""
    total = auroc[:1].sum(axis=-1)
    reaching = np.concatenate([total, auroc[..., 1], np.zeros_like(total)])
    return np.moveaxis(reaching[:-1] - reaching[1:], 0, -1)


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Divide; NaN if the denominator is 0."""
    undefined = np.full(np.shape(numerator), np.nan)
    return np.asarray(np.divide(numerator, denominator, out=undefined, where=np.asarray(denominator) > 0))


def _mean_defined(values: Array) -> float | None:
    """Mean, ignoring NaN; None if nothing is left."""
    is_defined = ~np.isnan(values)
    return mean(np.where(is_defined, values, 0.0).sum(), is_defined.sum())
