"""A metric: the expected calibration error, in ten bins of confidence (Guo et al. 2017)."""

import numpy as np
from numpy.typing import NDArray

from fl_app.metrics.further import Array, Metric
from fl_app.sums import Sums

BINS = 10


def blank(num_classes: int) -> dict[str, Array]:
    """Return the sums of zero images."""
    return {"count": np.zeros(BINS), "confidence": np.zeros(BINS), "right": np.zeros(BINS)}


def sums(probabilities: Array, labels: NDArray[np.int64]) -> dict[str, Array]:
    """Sum images, confidences and right answers in each bin: [BINS] each."""
    confidence = probabilities.max(axis=1)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    values = {"count": np.ones(len(labels)), "confidence": confidence, "right": probabilities.argmax(axis=1) == labels}
    return {name: np.bincount(bins, weights=value, minlength=BINS).astype(float) for name, value in values.items()}


def figure(total: Sums) -> float | None:
    """Return the mean gap between confidence and accuracy, weighted by images."""
    num_images = total["count"].sum()
    return float(np.abs(total["confidence"] - total["right"]).sum() / num_images) if num_images else None


CALIBRATION_ERROR = Metric(blank, sums, figure)
