"""What nodes measure of their embeddings: sums per class that add up, so that the split does not matter."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from fl_app.classification.network import Classifier, embed
from fl_app.classification.pictures import SUMS_SHAPE, picture_sums
from fl_app.data.images import ImageSet
from fl_app.data.loading import iterate
from fl_app.errors import FlAppError

Moments = Mapping[str, NDArray[np.float64]]

_BATCH_SIZE = 256


def blank_moments(num_classes: int, embedding_size: int) -> dict[str, NDArray[np.float64]]:
    """Return the moments of no image: zeros, with the names and shapes that all moments have.

    Returns:
        `count` [K] images; `sum` [K, D] = sum of f; `outer` [D, D] = sum of f f^T over all classes;
        `withheld` [K], 1 where a class was left out for having too few images; `picture` [4, 4], from
        `pictures.picture_sums`.
    """
    return {
        "count": np.zeros(num_classes),
        "sum": np.zeros((num_classes, embedding_size)),
        "outer": np.zeros((embedding_size, embedding_size)),
        "withheld": np.zeros(num_classes),
        "picture": np.zeros(SUMS_SHAPE),
    }


@torch.no_grad()
def measure_moments(
    model: Classifier, images: ImageSet, device: torch.device, min_class_count: int
) -> dict[str, NDArray[np.float64]]:
    """Sum up the embeddings f of a node's images in eval mode, and the images' own numbers, without augmentation.

    Args:
        model: on the device; left in eval mode.
        images: a node's training images; none gives zeros.
        device: where to compute; sums are taken in float64 on the host.
        min_class_count: a class with fewer images is left out of every sum and marked in `withheld`. 0 and 1
            leave out none.

    Returns:
        As `blank_moments`.

    Raises:
        FlAppError: an embedding is not finite.
    """
    moments = blank_moments(len(images.class_names), model.embedding_size)
    counts = images.class_counts()
    is_withheld = (counts > 0) & (counts < min_class_count)
    moments["withheld"] += is_withheld.cpu().numpy()
    kept = images.select(torch.nonzero(~is_withheld[images.labels]).flatten())
    moments["picture"] += picture_sums(kept.images)
    classes = np.eye(len(images.class_names))
    model.eval()
    for batch in iterate(kept, _BATCH_SIZE, device):
        f = embed(model, batch.images)
        if not np.isfinite(f).all():
            raise FlAppError("An embedding is not finite: the network has diverged. Lower the learning rate.")
        members = classes[batch.labels.cpu().numpy()]
        moments["count"] += members.sum(axis=0)
        moments["sum"] += members.T @ f
        moments["outer"] += f.T @ f
    return moments


def pool(parts: Iterable[Moments]) -> dict[str, NDArray[np.float64]]:
    """Add the moments of sites, each of them as measured, and what the sites' means tell.

    Two pooled results add up key by key to the pool of all their sites. A part without `picture`, as older versions
    wrote it, adds zeros to it.

    Returns:
        The keys of `blank_moments`, added; `site-outer` [K, D, D] = sum over sites of s s^T / n, with a site's sum s
        and count n of the class; `num-sites` [K], the sites that hold the class.

    Raises:
        ValueError: there are no parts, or two of different shapes.
    """
    total: dict[str, NDArray[np.float64]] = {}
    for part in parts:
        is_held = part["count"] > 0
        scaled = np.zeros_like(part["sum"], dtype=np.float64)
        scaled[is_held] = part["sum"][is_held] / np.sqrt(part["count"][is_held])[:, None]
        one = {
            "picture": np.zeros(SUMS_SHAPE),
            **{key: np.array(value, dtype=np.float64) for key, value in part.items()},
            "site-outer": scaled[:, :, None] * scaled[:, None, :],
            "num-sites": is_held.astype(np.float64),
        }
        if not total:
            total = one
            continue
        if {key: value.shape for key, value in total.items()} != {key: value.shape for key, value in one.items()}:
            raise ValueError("moments with other keys or shapes cannot be pooled")
        for key, value in one.items():
            total[key] += value
    if not total:
        raise ValueError("no moments to pool; the moments of no image are `blank_moments`")
    return total
