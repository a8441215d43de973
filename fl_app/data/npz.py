"""A folder with an npz in MedMNIST's form: train_images and train_labels, and such pairs of val_… and test_… if any.

A separate process reads the file (see `fl_app.data.npz_arrays`) and sends the images piece by piece, so a large file
takes no more memory than the images that are kept.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fl_app.data.decoders import read_npz_part
from fl_app.data.decoding import Pixels, to_pixels
from fl_app.data.images import DatasetInfo, ImageSet
from fl_app.data.listing import Part, resolve_inside, visible
from fl_app.data.loading import resize
from fl_app.data.npz_arrays import PREFIXES
from fl_app.errors import DataError

_MOST_ENLARGED = 2**30  # bytes of resized images: up to here they may be larger than those in the file by any factor,
_MOST_FACTOR = 100  # beyond by this factor at most


@dataclass(frozen=True)
class NpzPart:
    """A part of the file; empty if the file lacks it.

    Attributes:
        labels: [N] int64.
        num_channels: of the images in the file, 1 or 3; 1 if there is none.
        is_sixteen_bit: they have 16 bits in the file.
        images: yields the N images, [1, C, H, W] uint8 in the file's size and channels, 16 bits scaled to 8.
    """

    labels: NDArray[np.int64]
    num_channels: int
    is_sixteen_bit: bool
    images: Iterator[Tensor]


def find_npz(directory: Path) -> Path | None:
    """Return the only npz at the top of a folder, or None.

    Raises:
        DataError: the folder cannot be listed, or holds several npz, or an npz and a CSV file; or the npz is a link
            that leaves the folder.
    """
    paths = visible(directory)
    found = [path for path in paths if path.suffix.lower() == ".npz"]
    tables = [path for path in paths if path.suffix.lower() == ".csv"]
    if len(found) > 1 or (found and tables):
        names = ", ".join(path.name for path in found + tables)
        raise DataError(
            f"{directory} holds {names}: it is not clear which one holds the images. Leave one npz, or one CSV file "
            "beside image files.",
            public="the data folder holds several npz files, or one and a CSV file",
        )
    if not found:
        return None
    resolve_inside(directory, found[0])
    return found[0]


@contextmanager
def open_part(path: Path, part: Part) -> Iterator[NpzPart]:
    """Read the labels of a part; its images are read as they are taken.

    Raises:
        DataError: the file is broken, or its arrays are not of MedMNIST's form; also while images are taken.
    """
    with closing(read_npz_part(path, part)) as replies:
        found, labels = next(replies)
        images = (_tensor(image, found.num_channels) for _, piece in replies for image in piece)
        yield NpzPart(labels.reshape(-1).view(np.int64), found.num_channels, found.is_sixteen_bit, images)


def read_npz(path: Path, expected: DatasetInfo, part: Part, see: Callable[[Tensor], object] | None = None) -> ImageSet:
    """Read a part, which is empty if the file lacks it. Labels are positions of the expected classes, from 0.

    Args:
        path: the file.
        expected: agreed classes, channels and size.
        part: the part to read.
        see: is called with each image as it is in the file: see `NpzPart.images`.

    Raises:
        DataError: as `open_part` does, or the images take too much memory in the expected size.
    """
    size = expected.image_size
    with open_part(path, part) as found:
        check_labels(path, found.labels, len(expected.class_names))
        images = torch.empty(len(found.labels), expected.num_channels, size, size, dtype=torch.uint8)
        for number, own in enumerate(found.images):
            # tiny images must not fill the memory when they are enlarged
            if number == 0 and images.numel() > max(_MOST_ENLARGED, _MOST_FACTOR * len(images) * own.numel()):
                raise DataError(
                    f"{path} holds {len(images):,} images of {own.shape[3]} x {own.shape[2]} pixels, which would take "
                    f"{images.numel() / 1e9:.1f} GB when enlarged to {size} x {size}. Choose a smaller "
                    "'data.image-size', or larger images.",
                    public="the images in the npz are too small for the size of the run",
                )
            if see is not None:
                see(own)
            is_alike = own.shape[1] == expected.num_channels
            fitting = own if is_alike else _tensor(own[0].permute(1, 2, 0).numpy(), expected.num_channels)
            images[number : number + 1] = resize(fitting, size)
    return ImageSet(images, torch.from_numpy(found.labels), expected.class_names)


def classes_and_channels(path: Path) -> tuple[tuple[str, ...], int]:
    """Return the classes, named by their numbers up to the largest one in any part, and the number of channels.

    Raises:
        DataError: as `open_part` does.
    """
    found = []
    for part in PREFIXES:
        with open_part(path, part) as one:
            found.append(one)
    largest = max((int(one.labels.max()) for one in found if len(one.labels)), default=-1)
    for one in found:
        check_labels(path, one.labels, largest + 1)
    return tuple(str(number) for number in range(largest + 1)), max(one.num_channels for one in found)


def check_labels(path: Path, labels: NDArray[np.int64], num_classes: int) -> None:
    """Raise DataError if a label is not the number of a class."""
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise DataError(
            f"{path} holds labels from {labels.min()} to {labels.max()}. Expected 0 to {num_classes - 1}, the places "
            "of the classes in 'data.class-names'.",
            public="a label in the npz lies outside the classes of the run",
        )


def _tensor(image: Pixels, num_channels: int) -> Tensor:
    """Turn [H, W, 1 or 3] into [1, C, H, W]."""
    grey_or_rgb = image[..., 0] if image.shape[2] == 1 else image
    return torch.from_numpy(to_pixels(Image.fromarray(grey_or_rgb), num_channels).copy())
