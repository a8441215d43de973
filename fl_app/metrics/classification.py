"""Figures of a classifier from sums that add up over nodes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fl_app.errors import FlAppError
from fl_app.sums import Statistics, mean

Array = NDArray[np.float64]

# A softmax piles up at 0 and 1, or, before training, at 1 / K, and squared distances as scores differ by hundreds of
# nats, where a probability is 1 in float64. So images are binned by the logit, in bins that are narrow around that of
# 1 / K and grow with the distance from it.
_NUM_THRESHOLDS = 128
NUM_SCORE_BINS = _NUM_THRESHOLDS + 1  # the first one stays empty
_FINE_WITHIN = 0.3  # logits from that of 1 / K, where the bins start to grow
_LARGEST_LOGIT = 1000.0


# Scores are divided by these before the softmax, to find out how sure a head may be (Guo et al. 2017).
TEMPERATURES = np.concatenate([np.geomspace(0.1, 1.0, 11)[:-1], np.geomspace(1.0, 1000.0, 31)])
MOST_NATS = 1e4  # that one image may cost


def blank_scores(num_classes: int) -> dict[str, Array]:
    """Return the statistics of no image.

    Returns:
        `confusion` [K, K], true times predicted; `auroc` [T, K, 2, 2], per threshold and class the images by
        whether they are of the class and whether their logit, stretched, reaches the threshold; `nll` [] and
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


def score_statistics(scores: Array, labels: NDArray[np.int64]) -> dict[str, Array]:
    """Sum up how scores agree with labels.

    Args:
        scores: [B, K]; the largest wins, the smallest class on ties; minus infinity for an excluded class.
            Probabilities are their softmax.
        labels: [B].

    Returns:
        As `blank_scores`. An image whose own class is excluded has an infinite negative log-likelihood; it is
        left out of `nll` and `nll-count`.

    Raises:
        FlAppError: a score is not a number, or an image has no finite score.
    """
    num_classes = scores.shape[1]
    statistics = blank_scores(num_classes)
    if len(scores) == 0:
        return statistics
    log_probabilities = _log_softmax(np.asarray(scores, dtype=np.float64))
    np.add.at(statistics["confusion"], (labels, np.argmax(scores, axis=1)), 1.0)
    statistics["auroc"] += _auroc_state(score_bins(log_probabilities), labels)
    rows = np.arange(len(scores))
    own = log_probabilities[rows, labels]
    is_finite = np.isfinite(own)
    statistics["nll"] += _cost(own[is_finite])
    statistics["nll-count"] += is_finite.sum()
    likely = np.argpartition(log_probabilities, max(num_classes - 2, 0), axis=1)
    runner_up = log_probabilities[rows, likely[:, max(num_classes - 2, 0)]]
    has_other = is_finite & np.isfinite(runner_up) & (num_classes > 1)
    for index, temperature in enumerate(TEMPERATURES):
        total = _log_sum(log_probabilities / temperature)
        statistics["nll-tempered"][index] += _cost((own / temperature - total)[is_finite])
        statistics["nll-runner-up"][index] += _cost((runner_up / temperature - total)[has_other])
    return statistics


Figures = dict[str, Any]  # see `figures`


def figures(statistics: Statistics) -> Figures:
    """Finish added statistics.

    Returns:
        `n` and `support` ([K]) in images; `accuracy`; `balanced-accuracy` and `macro-f1`, over the classes with
        support; `auc`, one class against the rest, averaged over the classes with images on both sides (K = 2: of
        class 1); `nll`, the mean negative log-likelihood in nats, over the images whose class is not excluded.
        None where a figure is not defined. The AUC counts scores in one bin as ties.
    """
    confusion = statistics["confusion"]
    measured = {name: _number(value) for name, value in _confusion_figures(confusion).items()}
    return {
        "n": round(float(confusion.sum())),
        "support": [round(float(value)) for value in confusion.sum(axis=1)],
        "accuracy": measured["accuracy"],
        "balanced-accuracy": measured["balanced-accuracy"],
        "auc": _number(_mean_defined(np.array([_auc(*bins) for bins in auc_bins(statistics)]))),
        "macro-f1": measured["macro-f1"],
        "nll": mean(float(statistics["nll"]), float(statistics["nll-count"])),
    }


def best_temperature(statistics: Statistics) -> float | None:
    """Return the one of TEMPERATURES that fits the images best; None if nothing was measured.

    One more image is added to those that were measured, an average one whose runner-up is right. Without it a few
    images that are all right would ask for certainty. With it n images, all right and all equally clear, give
    the right class the probability n / (n + 1), nearly Laplace's rule of succession.
    """
    count = float(statistics["nll-count"])
    if count == 0:
        return None
    cost = statistics["nll-tempered"] + statistics["nll-runner-up"] / count
    is_best = cost <= cost.min() + 1e-9 * count
    return float(min(TEMPERATURES[is_best], key=lambda t: abs(np.log(t))))


def _log_sum(logs: Array) -> Array:
    """Return the log of the sum of the powers in each row: [B]."""
    largest = logs.max(axis=1)
    return np.asarray(largest + np.log(np.exp(logs - largest[:, None]).sum(axis=1)))


def _cost(log_likelihoods: Array) -> float:
    return float(np.minimum(-log_likelihoods, MOST_NATS).sum())


def _log_softmax(scores: Array) -> Array:
    if np.isnan(scores).any() or not np.isfinite(scores.max(axis=1)).all():
        raise FlAppError("A score is not finite: the network has diverged or its weights are damaged.")
    return np.asarray(special.log_softmax(scores, axis=1))


def stretched_logits(log_probabilities: Array) -> Array:
    """Map probabilities to [0, 1] in their own order, by asinh((logit p - logit 1/K) / _FINE_WITHIN), even at its ends.

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


def _auroc_state(reached: NDArray[np.int64], labels: NDArray[np.int64]) -> Array:
    """Return the state of torchmetrics' MulticlassAUROC after these images, [T, K, 2, 2], in a fiftieth of its time."""
    num_classes = reached.shape[1]
    is_class = labels[:, None] == np.arange(num_classes)
    cells = (reached * num_classes + np.arange(num_classes)) * 2 + is_class
    counts = np.bincount(cells.ravel(), minlength=(_NUM_THRESHOLDS + 1) * num_classes * 2)
    counts = counts.reshape(_NUM_THRESHOLDS + 1, num_classes, 2)
    reaching = counts[::-1].cumsum(axis=0)[::-1][1:]
    return np.stack([counts.sum(axis=0) - reaching, reaching], axis=-1).astype(np.float64)


def _confusion_figures(confusion: Array) -> dict[str, Array]:
    """Finish confusion matrices [..., K, K] to figures [...], not a number where not defined."""
    support, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    correct = np.diagonal(confusion, axis1=-2, axis2=-1)
    has_support = support > 0
    f1 = _ratio(2.0 * correct, support + predicted)
    return {
        "accuracy": _ratio(correct.sum(axis=-1), support.sum(axis=-1)),
        "balanced-accuracy": _mean_defined(_ratio(correct, support)),
        "macro-f1": _mean_defined(np.where(has_support, f1, np.nan)),
    }


def auc_bins(statistics: Statistics) -> list[Array]:
    """Return, per class that counts, the images by (rest or class, bin of their probability): [2, T + 1]."""
    state = statistics["auroc"]
    total = state[:1].sum(axis=-1)
    reaching = np.concatenate([total, state[..., 1], np.zeros_like(total)])
    bins = np.moveaxis(reaching[:-1] - reaching[1:], 0, -1)
    classes = [1] if len(bins) == 2 else range(len(bins))
    return [bins[label] for label in classes]


def _auc(rest: Array, members: Array) -> Array:
    """Return the share of pairs in the right order, ties half, of images binned as [..., T + 1]."""
    below = np.cumsum(rest, axis=-1) - 0.5 * rest
    return _ratio((members * below).sum(axis=-1), members.sum(axis=-1) * rest.sum(axis=-1))


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Divide; not a number where the denominator is 0."""
    undefined = np.full(np.shape(numerator), np.nan)
    return np.asarray(np.divide(numerator, denominator, out=undefined, where=np.asarray(denominator) > 0))


def _mean_defined(values: Array) -> Array:
    """Average over the last axis what is a number; not a number where nothing is."""
    is_defined = ~np.isnan(values)
    return _ratio(np.where(is_defined, values, 0.0).sum(axis=-1), is_defined.sum(axis=-1))


def _number(value: Array) -> float | None:
    return None if np.isnan(value) else float(value)
