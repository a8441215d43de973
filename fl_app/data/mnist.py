"""The sources `mnist` and `fashion-mnist`: gzipped idx files, laid out as torchvision does."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fl_app.data.files import KnownFile, read_known_files
from fl_app.data.images import DatasetInfo, ImageSet, read_by_part
from fl_app.options.images import DataOptions

_SIDE = 28
_IMAGES_HEADER, _LABELS_HEADER = 16, 8  # bytes before the values in an idx file of 3 and of 1 dimensions
_CLASSES = {
    "mnist": tuple(str(digit) for digit in range(10)),
    "fashion-mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
}  # fmt: skip


def info(options: DataOptions) -> DatasetInfo:
    """Return classes, channels and the size before resizing."""
    return DatasetInfo(_CLASSES[options.source], num_channels=1, image_size=_SIDE)


def load(options: DataOptions, split: str) -> ImageSet:
    """Read the 60,000 training or the 10,000 test images; raises DataError as `read_known_files` does."""
    from torchvision.datasets import MNIST, FashionMNIST  # slow to import, and needed for these sources only

    published: Any = FashionMNIST if options.source == "fashion-mnist" else MNIST  # knows checksums and how to download
    prefix = "train" if split == "train" else "t10k"
    names = [f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz"]
    checksums = dict(published.resources)
    files = [KnownFile((f"{published.__name__}/raw/{name}",), checksums[name]) for name in names]

    def download(folder: Path) -> None:
        published(root=folder, download=True)

    # the checksums match, so the content needs no further check
    images, labels = (gzip.decompress(content) for content in read_known_files(options, files, download))
    pixels = np.frombuffer(images, np.uint8, offset=_IMAGES_HEADER).reshape(-1, 1, _SIDE, _SIDE)
    targets = np.frombuffer(labels, np.uint8, offset=_LABELS_HEADER).astype(np.int64)
    return ImageSet(torch.from_numpy(pixels.copy()), torch.from_numpy(targets), info(options).class_names)


SOURCE = read_by_part(info, load, ("train", "test"))
