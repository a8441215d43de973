"""Which images are drawn to be judged."""

import numpy as np
from numpy.typing import NDArray


def classes_to_draw(test_counts: NDArray[np.int64], held: list[bool], num_images: int) -> NDArray[np.int64]:
    """Return the class of each image to draw, so that classes are as frequent as among the sites' test images.

    Args:
        test_counts: [K], test images of all sites.
        held: of each class, whether any site has a training image of it; others cannot be drawn.
        num_images: how many.

    Returns:
        [num_images] int64, sorted; empty if there is no test image of a class that is held.
    """
    wanted = np.where(held, test_counts, 0).astype(np.float64)
    if wanted.sum() == 0:
        return np.zeros(0, dtype=np.int64)
    exact = wanted / wanted.sum() * num_images
    counts = np.floor(exact).astype(np.int64)
    largest = np.argsort(counts - exact, kind="stable")  # the largest remainders get what is left
    counts[largest[: num_images - counts.sum()]] += 1
    return np.repeat(np.arange(len(counts)), counts)
