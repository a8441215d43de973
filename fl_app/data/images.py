"""Image sets in memory: bytes, labels and class names; the sources that read them; and batches for the losses.

N  images of a set            B  images of a batch
C  channels (1 or 3)          H, W  height and width in pixels
K  classes                    D  size of an embedding
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fl_app.data.listing import Part
from fl_app.errors import DataError
from fl_app.options.images import DataOptions


@dataclass(frozen=True)
class ImageSet:
    """Labelled images.

    Attributes:
        images: [N, C, H, W] uint8, C is 1 or 3.
        labels: [N] int64 in [0, K).
        class_names: K names, in the order of the labels.
        patients: [N] int64, equal numbers for images of one patient, on the CPU; None if patients are not known.
        positions: [N, 2] float64 in [0, 1), by a hash with the hospital's secret key (`partition.hash_position`): of
            the image's patient, or of its file if that is not known, and of its file. None if nothing is split by them.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    patients: Tensor | None = None
    positions: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        if self.images.dtype != torch.uint8 or len(shape) != 4 or shape[1] not in (1, 3):
            raise DataError(
                f"Images must be uint8 [N, 1 or 3, H, W], got {self.images.dtype} {list(shape)}.",
                public="the images have an unexpected shape or type",
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != shape[:1]:
            raise DataError(
                f"Labels must be int64 [{shape[0]}], got {self.labels.dtype} {list(self.labels.shape)}.",
                public="the labels have an unexpected shape or type",
            )
        if len(self) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.class_names):
            raise DataError(
                f"Labels must lie in [0, {len(self.class_names)}), "
                f"got {int(self.labels.min())} to {int(self.labels.max())}.",
                public="a label lies outside the classes of the run",
            )
        assert self.patients is None or self.patients.shape == self.labels.shape
        assert self.positions is None or self.positions.shape == (shape[0], 2)

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def select(self, indices: Tensor) -> "ImageSet":
        """Return the images at the given positions, in that order; `indices`: [M] int64."""
        patients = None if self.patients is None else self.patients[indices]
        positions = None if self.positions is None else self.positions[indices]
        return ImageSet(self.images[indices], self.labels[indices], self.class_names, patients, positions)

    def units(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the groups a split must keep together: patients if known, else single images.

        Returns:
            The label of each group, for a patient the most frequent one (ties: the smallest), [U] int64; and the group
            of each image, [N] int64 in [0, U).
        """
        labels = self.labels.numpy()
        if self.patients is None:
            return labels, np.arange(len(labels))
        unit_of = np.unique(self.patients.numpy(), return_inverse=True)[1].astype(np.int64)
        table = np.zeros((int(unit_of.max(initial=-1)) + 1, len(self.class_names)), dtype=np.int64)
        np.add.at(table, (unit_of, labels), 1)
        return table.argmax(axis=1), unit_of

    def class_counts(self) -> Tensor:
        """Count the images of each class: [K] int64."""
        return torch.bincount(self.labels, minlength=len(self.class_names))


@dataclass(frozen=True)
class DatasetInfo:
    """The properties of a data set that are known before any image is read.

    Attributes:
        class_names: K names, in the order of the labels.
        num_channels: 1 (grey) or 3 (RGB).
        image_size: side of the square images in pixels.
    """

    class_names: tuple[str, ...]
    num_channels: int
    image_size: int


def no_images(info: DatasetInfo) -> ImageSet:
    """Return a set of zero images."""
    pixels = torch.zeros(0, info.num_channels, info.image_size, info.image_size, dtype=torch.uint8)
    return ImageSet(pixels, torch.zeros(0, dtype=torch.int64), info.class_names)


Load = Callable[[DataOptions, Sequence[Part]], dict[Part, ImageSet]]


class Source(NamedTuple):
    """A data source: how to read a data set. Plug-ins of the group `fl_app.sources` are such values.

    Attributes:
        info: returns the properties that are known before any image is read, the size before resizing.
        load: reads the wanted parts, of any size, in the order of the files and the same ones for every seed; a part
            that the set lacks is missing or empty. Raises DataError if images are missing or broken.
    """

    info: Callable[[DataOptions], DatasetInfo]
    load: Load


def read_by_part(
    info: Callable[[DataOptions], DatasetInfo], load: Callable[[DataOptions, str], ImageSet], parts: Sequence[Part]
) -> Source:
    """Return the source of a set with these parts; `load` reads one part."""
    return Source(info, lambda options, wanted: {part: load(options, part) for part in wanted if part in parts})


@dataclass(frozen=True)
class Batch:
    """Images and labels on the training device.

    Attributes:
        images: [B, C, H, W] float32 in [-1, 1].
        labels: [B] int64 in [0, K).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def __getitem__(self, part: slice) -> "Batch":
        return Batch(self.images[part], self.labels[part])
