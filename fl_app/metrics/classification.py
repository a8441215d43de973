"""Figures of a classifier from sums that add up over nodes: accuracy, balanced accuracy, AUC, macro F1, likelihood."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax

from fl_app.metrics.additive import Statistics, mean

Floats = NDArray[np.float64]

# Softmax piles up near 0 and 1, so the thresholds are even in the logit; the first one, 0, lets everything pass.
THRESHOLDS = np.concatenate([[0.0], expit(np.linspace(-14.0, 14.0, 127))])

_FIGURES = ("accuracy", "balanced-accuracy", "auc", "macro-f1")


def blank_scores(num_classes: int) -> dict[str, Floats]:
    """Return the sums of no image.

    Returns:
        `confusion` [K, K], images by true and predicted class; `auroc` [T, K, 2, 2], torchmetrics' binned state: at
        each threshold and for each class the images that are of it or not (third index) and pass or not (fourth);
        `nll` and `nll-count` [], negative log-likelihood in nats. All float64 and additive.
    """
    return {
        "confusion": np.zeros((num_classes, num_classes)),
        "auroc": np.zeros((len(THRESHOLDS), num_classes, 2, 2)),
        "nll": np.zeros(()),
        "nll-count": np.zeros(()),
    }


def score_statistics(scores: Floats, labels: NDArray[np.int64]) -> dict[str, Floats]:
    """Sum up what scores get right.

    Args:
        scores: [B, K] float64; the largest wins, the smallest class of several; minus infinity excludes a class.
        labels: [B] int64.

    Returns:
        The sums that `blank_scores` names.
    """
    num_classes = scores.shape[1]
    if len(labels) == 0:
        return blank_scores(num_classes)
    log_likelihood = log_softmax(np.asarray(scores, dtype=np.float64), axis=1)
    pairs = labels * num_classes + scores.argmax(axis=1)
    right = log_likelihood[np.arange(len(labels)), labels]
    return {
        "confusion": np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.float64),
        "auroc": _binned(np.exp(log_likelihood), labels),
        "nll": -np.maximum(right, np.log(np.finfo(np.float64).tiny)).sum(),
        "nll-count": np.array(float(len(labels))),
    }


def _binned(probabilities: Floats, labels: NDArray[np.int64]) -> Floats:
    """Return the state that torchmetrics' MulticlassAUROC has after these images, many times faster: [T, K, 2, 2]."""
    num_classes, num_thresholds = probabilities.shape[1], len(THRESHOLDS)
    passed = np.searchsorted(THRESHOLDS, probabilities, side="right")  # thresholds that each probability reaches
    is_class = labels[:, None] == np.arange(num_classes)
    cell = (passed * num_classes + np.arange(num_classes)) * 2 + is_class
    counts = np.bincount(cell.ravel(), minlength=(num_thresholds + 1) * num_classes * 2)
    counts = counts.reshape(num_thresholds + 1, num_classes, 2)
    passing = counts[::-1].cumsum(axis=0)[::-1][1:]
    return np.stack([counts.sum(axis=0) - passing, passing], axis=-1).astype(np.float64)


def figures(statistics: Statistics) -> dict[str, Any]:
    """Finish added sums.

    Returns:
        `n`; `support`, images of each class; `accuracy`; `balanced-accuracy`, the mean recall, and `macro-f1`, both
        over the classes that have images; `auc`, one class against the rest, the mean over the classes for which it is
        defined, with two classes that of class 1; `nll`. None for what is not defined.
    """
    confusion, auroc = statistics["confusion"], statistics["auroc"]
    found = _figures(confusion[None], auroc[None])
    return {
        "n": int(confusion.sum()),
        "support": [int(number) for number in confusion.sum(axis=1)],
        **{name: None if np.isnan(values[0]) else float(values[0]) for name, values in found.items()},
        "nll": mean(float(statistics["nll"]), float(statistics["nll-count"])),
    }


def intervals(
    statistics: Statistics, generator: np.random.Generator, num_resamples: int = 1000, level: float = 0.95
) -> dict[str, tuple[float, float] | None]:
    """Return bootstrap intervals over images, from the sums alone.

    Drawing images with replacement is drawing their cells in the confusion matrix, and their bins of a score, from a
    multinomial distribution. Each class's curve is resampled by itself, as if the classes' scores were independent.

    Args:
        statistics: added sums.
        generator: draws the resamples.
        num_resamples: how many.
        level: share of the resamples within the interval.
    """
    confusion, auroc = statistics["confusion"], statistics["auroc"]
    total = int(confusion.sum())
    if total == 0:
        return dict.fromkeys(_FIGURES)
    cells = generator.multinomial(total, confusion.ravel() / total, num_resamples)
    drawn = _figures(cells.reshape(-1, *confusion.shape).astype(np.float64), _resample(auroc, generator, num_resamples))
    tails = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
    found: dict[str, tuple[float, float] | None] = {}
    for name, values in drawn.items():
        defined = values[~np.isnan(values)]
        low, high = np.quantile(defined, tails) if len(defined) else (0.0, 0.0)
        found[name] = (float(low), float(high)) if len(defined) else None
    return found


def _figures(confusion: Floats, auroc: Floats) -> dict[str, Floats]:
    """Return figures of M results at once, nan where not defined; [M, K, K] and [M, T, K, 2, 2] -> [M] each."""
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    support, predicted, total = confusion.sum(axis=2), confusion.sum(axis=1), confusion.sum(axis=(1, 2))
    has_images = support > 0
    recall = hits / np.where(has_images, support, 1.0)
    f1 = 2.0 * hits / np.where(has_images, support + predicted, 1.0)
    return {
        "accuracy": np.where(total > 0, hits.sum(axis=1) / np.maximum(total, 1.0), np.nan),
        "balanced-accuracy": _mean_where(recall, has_images),
        "auc": _auc(auroc),
        "macro-f1": _mean_where(f1, has_images),
    }


def _auc(auroc: Floats) -> Floats:
    """Return the area under the curve through the thresholds' points, by trapezoids: [M, T, K, 2, 2] -> [M]."""
    totals = auroc[:, 0].sum(axis=-1)  # [M, K, 2]
    is_defined = (totals > 0).all(axis=-1)
    rates = auroc[..., 1] / np.maximum(totals, 1.0)[:, None]  # [M, T, K, 2], falling with the threshold
    rates = np.concatenate([rates, np.zeros_like(rates[:, :1])], axis=1)
    width = rates[:, :-1, :, 0] - rates[:, 1:, :, 0]
    height = (rates[:, :-1, :, 1] + rates[:, 1:, :, 1]) / 2.0
    areas = (width * height).sum(axis=1)
    if areas.shape[1] == 2:
        areas, is_defined = areas[:, 1:], is_defined[:, 1:]
    return _mean_where(areas, is_defined)


def _resample(auroc: Floats, generator: np.random.Generator, num_resamples: int) -> Floats:
    """Draw states of as many images, each class by itself: [T, K, 2, 2] -> [M, T, K, 2, 2]."""
    passing = np.concatenate([auroc[..., 1], np.zeros_like(auroc[:1, ..., 1])])  # [T + 1, K, 2]
    bins = np.maximum(passing[:-1] - passing[1:], 0.0)  # images between two thresholds
    num_thresholds, num_classes, _ = bins.shape
    drawn = np.empty((num_resamples, num_thresholds, num_classes, 2, 2))
    for label in range(num_classes):
        counts = bins[:, label].ravel()
        cells = generator.multinomial(int(counts.sum()), counts / counts.sum(), num_resamples)
        cells = cells.reshape(num_resamples, num_thresholds, 2)
        passed = cells[:, ::-1].cumsum(axis=1)[:, ::-1]
        drawn[:, :, label, :, 1] = passed
        drawn[:, :, label, :, 0] = passed[:, :1] - passed
    return drawn


def _mean_where(values: Floats, wanted: NDArray[np.bool_]) -> Floats:
    number = wanted.sum(axis=1)
    return np.where(number > 0, (values * wanted).sum(axis=1) / np.maximum(number, 1), np.nan)
