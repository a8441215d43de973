"""Moments of embeddings: sums that add up over nodes, and from which every prototype head is built."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from fl_app.classification.network import Classifier
from fl_app.data.images import ImageSet
from fl_app.data.loading import iterate
from fl_app.errors import FlAppError

Moments = Mapping[str, NDArray[np.float64]]

_BATCH_SIZE = 256


def blank_moments(num_classes: int, embedding_size: int) -> dict[str, NDArray[np.float64]]:
    """Return the moments of no image.

    Returns:
        `count` [K], images n_c of each class; `sum` [K, D], their embeddings s_c; `outer` [D, D], sum of f f^T over all
        of them; `withheld` [K], 1 for a class that the node has too few images of to tell. All float64 and additive.
    """
    return {
        "count": np.zeros(num_classes),
        "sum": np.zeros((num_classes, embedding_size)),
        "outer": np.zeros((embedding_size, embedding_size)),
        "withheld": np.zeros(num_classes),
    }


def measure_moments(
    model: Classifier, images: ImageSet, device: torch.device, min_class_count: int
) -> dict[str, NDArray[np.float64]]:
    """Sum up the embeddings of images, in eval mode and without augmentation.

    Args:
        model: on the device.
        images: a node's training images; may be empty.
        device: where to compute.
        min_class_count: a class with fewer images than that is left out of all sums, and marked as withheld.

    Raises:
        FlAppError: an embedding is not finite.
    """
    num_classes = len(images.class_names)
    moments = blank_moments(num_classes, model.embedding_size)
    held = images.class_counts().cpu().numpy()
    told = held >= min_class_count
    moments["withheld"] = ((held > 0) & ~told).astype(np.float64)
    chosen = images.select(torch.from_numpy(told).to(images.labels.device)[images.labels].nonzero().flatten())
    model.eval()
    with torch.no_grad():
        for batch in iterate(chosen, _BATCH_SIZE, device):
            features = model.embed(batch.images).double().cpu().numpy()
            if not np.isfinite(features).all():
                raise FlAppError("The classifier's embeddings are not finite: no prototype can be measured.")
            one_hot = np.eye(num_classes)[batch.labels.cpu().numpy()]
            moments["count"] += one_hot.sum(axis=0)
            moments["sum"] += one_hot.T @ features
            moments["outer"] += features.T @ features
    return moments


def pool(parts: Iterable[Moments]) -> dict[str, NDArray[np.float64]]:
    """Add the moments of sites, and keep what the sites' means tell of the spread within a class.

    Returns:
        The sums of all parts; `site-outer` [K, D, D], the sum over sites of s_kc s_kc^T / n_kc; `num-sites` [K], the
        sites that hold the class. The result adds up with other results.

    Raises:
        ValueError: there is no part.
    """
    total: dict[str, NDArray[np.float64]] = {}
    for part in parts:
        present = part["count"] > 0
        means = part["sum"] / np.sqrt(np.where(present, part["count"], 1.0))[:, None]
        site = {key: np.asarray(value, dtype=np.float64) for key, value in part.items()}
        site["site-outer"] = np.einsum("kd,ke->kde", means, means) * present[:, None, None]
        site["num-sites"] = present.astype(np.float64)
        total = {key: total[key] + value for key, value in site.items()} if total else site
    if not total:
        raise ValueError("no moments to pool")
    return total
