"""Sites with made-up images, and their sums."""

import numpy as np
import torch
from numpy.typing import NDArray

from fl_app.data.images import ImageSet
from fl_app.data.loading import to_float
from fl_app.quality.measuring import measure_quality

CLASSES = ("a", "b", "c")
K = 3
SIDE = 3
D = SIDE * SIDE
NEIGHBOURS = 3

Array = NDArray[np.float64]


def plain(images: ImageSet) -> Array:
    """Return the pixels as features: [N, D]."""
    return to_float(images.images).flatten(1).double().numpy()


def make_images(seed: int, counts: tuple[int, ...] = (40, 40, 40), spread: float = 20.0) -> ImageSet:
    """Return images whose brightness tells the class."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(K), counts)
    values = 60.0 + 60.0 * labels[:, None] + generator.normal(0.0, spread, (len(labels), D))
    pixels = torch.from_numpy(values.clip(0, 255).astype(np.uint8).reshape(-1, 1, SIDE, SIDE))
    return ImageSet(pixels, torch.from_numpy(labels), CLASSES)


def sums_of(seed: int, counts: tuple[int, ...] = (40, 40, 40), per_feature: int = 0) -> dict[str, Array]:
    """Return what a site measures of the same generated images; seed and counts are those of its own images."""
    real, floor = make_images(seed, counts), make_images(1000 + seed, counts)
    return measure_quality(plain, real, floor, make_images(77), NEIGHBOURS, per_feature)
