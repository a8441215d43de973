"""Checks whether images, and those that the site described, could have produced its sums."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fl_app.metrics.classification import MOST_NATS, TEMPERATURES
from fl_app.sums import Sums

ROUNDING = 1e-6

_COSTS = ("nll", "nll-tempered", "nll-runner-up")


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


def loss_fault(sums: Sums, num_draws: float | None) -> str | None:
    """Return what is wrong with sums of denoising losses; None if images could have produced them.

    Args:
        sums: `loss-sum` and `loss-count`, of the same length.
        num_draws: the largest number of losses that the site's held-out images have; None: unknown.
    """
    total, count = sums["loss-sum"], sums["loss-count"]
    if not are_counts(count):
        return "its counts 'loss-count' are not whole numbers of at least 0"
    if num_draws is not None and count.sum() > num_draws:
        return "it measured more held-out images than it said it holds"
    if (total < 0).any() or (total > count * MOST_NATS * (1.0 + ROUNDING)).any():
        return "its losses are negative, or larger than any that are counted"
    return None


def differing_images(images: Iterable[NDArray[np.float64]]) -> str | None:
    """Return a fault if models were measured on different images, else None; `images`: counts for each model."""
    counts = list(images)
    if any((count != counts[0]).any() for count in counts[1:]):
        return "it measured its models on different images"
    return None


def are_counts(values: NDArray[np.float64]) -> bool:
    """Return whether all numbers are whole and at least 0."""
    return bool(((values >= 0) & (values == np.round(values))).all())
