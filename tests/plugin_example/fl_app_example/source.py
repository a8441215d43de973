"""A data source: grey images of 8 x 8 pixels with horizontal or vertical stripes."""

import numpy as np
import torch

from fl_app.data.images import DatasetInfo, ImageSet, read_by_part
from fl_app.options.images import DataOptions

INFO = DatasetInfo(("horizontal", "vertical"), num_channels=1, image_size=8)
COUNTS = {"train": 160, "test": 40}


def info(options: DataOptions) -> DatasetInfo:
    """Return classes, channels and size without reading an image."""
    return INFO


def load(options: DataOptions, part: str) -> ImageSet:
    """Draw one part; each call returns the same images."""
    generator = np.random.default_rng(len(part))
    labels = np.arange(COUNTS[part]) % 2
    bright = (np.arange(8) + generator.integers(4, size=(len(labels), 1))) // 2 % 2
    stripes = np.where(labels[:, None, None] == 0, bright[:, :, None], bright[:, None, :])
    pixels = 160 * stripes + generator.integers(96, size=(len(labels), 8, 8))
    return ImageSet(torch.from_numpy(pixels.astype(np.uint8))[:, None], torch.from_numpy(labels), INFO.class_names)


STRIPES = read_by_part(info, load, ("train", "test"))
