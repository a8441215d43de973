"""Draws that take the same share of each class."""

import numpy as np
from numpy.typing import NDArray


def stratified_choice(labels: NDArray[np.int64], count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw `count` positions so that each class gives its share, rounded by largest remainder.

    Args:
        labels: [N] int64.
        count: how many, at most N.
        generator: draws the images, and which class gives one more where remainders are equal.

    Returns:
        [count] int64 positions in [0, N), ascending.
    """
    assert 0 <= count <= len(labels)
    if count == 0:
        return np.empty(0, dtype=np.int64)
    classes, sizes = np.unique(labels, return_counts=True)
    quotas, remainders = np.divmod(sizes * count, len(labels))
    lots = generator.permutation(len(classes))  # without lots, equal remainders would always favour the first classes
    most_left = lots[np.argsort(-remainders[lots], kind="stable")]
    quotas[most_left[: count - quotas.sum()]] += 1
    chosen = [
        generator.choice(np.flatnonzero(labels == label), quota, replace=False)
        for label, quota in zip(classes, quotas, strict=True)
    ]
    return np.sort(np.concatenate(chosen))
