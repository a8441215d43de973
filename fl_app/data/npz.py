"""A folder with an npz in MedMNIST's form: train_images, train_labels, and such pairs of val_… and test_… if any."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fl_app.data.decoding import scale_sixteen_bits, to_tensor
from fl_app.data.images import DatasetInfo, ImageSet
from fl_app.data.listing import visible
from fl_app.data.parts import Part
from fl_app.data.resizing import resize
from fl_app.errors import DataError

_PREFIXES: dict[Part, str] = {"train": "train", "validation": "val", "test": "test"}


def find_npz(directory: Path) -> Path | None:
    """Return the only npz at the top of a folder, or None.

    Raises:
        DataError: the folder cannot be listed, or holds several of them, or a CSV file as well.
    """
    paths = visible(directory)
    found = [path for path in paths if path.suffix.lower() == ".npz"]
    tables = [path for path in paths if path.suffix.lower() == ".csv"]
    if len(found) > 1 or (found and tables):
        names = ", ".join(path.name for path in found + tables)
        raise DataError(
            f"{directory} holds {names}: which one holds the images is not clear. Leave one npz, or one CSV file "
            "beside image files.",
            public="the data folder holds several npz files, or one and a CSV file",
        )
    return found[0] if found else None


def read_npz(path: Path, expected: DatasetInfo, part: Part) -> ImageSet:
    """Read a part; one that is not there is empty. Labels are numbers, and count the expected classes from 0.

    Raises:
        DataError: the file is broken, or its arrays are not of MedMNIST's form.
    """
    pixels, labels = read_arrays(path, part)
    check_labels(path, labels, len(expected.class_names))
    size = expected.image_size
    blank = torch.zeros(0, expected.num_channels, size, size, dtype=torch.uint8)
    images = [resize(to_tensor(Image.fromarray(image), expected.num_channels), size) for image in pixels]
    return ImageSet(torch.cat([blank, *images]), torch.from_numpy(labels), expected.class_names)


def own_pixels(path: Path, part: Part) -> Iterator[Tensor]:
    """Yield the images of a part one by one as they are, [1, C, H, W] uint8 of the file's own channels and size.

    Raises:
        DataError: as `read_npz` does.
    """
    pixels, _ = read_arrays(path, part)
    return (to_tensor(Image.fromarray(image), 1 if image.ndim == 2 else 3) for image in pixels)


def read_arrays(path: Path, part: Part) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read a part as it is, 16 bits scaled to 8.

    Returns:
        [N, H, W] or [N, H, W, 3] uint8, and [N] int64.

    Raises:
        DataError: as `read_npz` does.
    """
    with _open(path) as arrays:
        names = [f"{_PREFIXES[part]}_{what}" for what in ("images", "labels")]
        missing = [name for name in names if name not in arrays.files]
        if missing and (part == "train" or len(missing) == 1):
            raise DataError(
                f"{path} holds no array {missing[0]}. Expected train_images and train_labels, and val_… and test_… in "
                f"pairs; found {', '.join(arrays.files) or 'none'}.",
                public="the npz lacks an array of images or labels",
            )
        if missing:
            return np.zeros((0, 1, 1), dtype=np.uint8), np.zeros(0, dtype=np.int64)
        pixels, labels = arrays[names[0]], arrays[names[1]]
    return _check_pixels(path, names[0], pixels), _flat_labels(path, names[1], labels, len(pixels))


def classes_and_channels(path: Path) -> tuple[tuple[str, ...], int]:
    """Return the classes, named by their numbers up to the largest one of any part, and the number of channels.

    Raises:
        DataError: as `read_npz` does.
    """
    found = [read_arrays(path, part) for part in _PREFIXES]
    largest = max((int(labels.max()) for _, labels in found if len(labels)), default=-1)
    for _, labels in found:
        check_labels(path, labels, largest + 1)
    num_channels = 3 if any(pixels.ndim == 4 for pixels, _ in found) else 1
    return tuple(str(number) for number in range(largest + 1)), num_channels


@contextmanager
def _open(path: Path) -> Iterator[NpzFile]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if not isinstance(arrays, NpzFile):
                raise ValueError("it holds a single array")
            yield arrays
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib and numpy have a dozen ways to choke on bytes
        raise DataError(f"{path} cannot be read as npz: {error}. Replace it.", public="the npz is broken") from error


def _check_pixels(path: Path, name: str, pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    is_shape = pixels.ndim == 3 or (pixels.ndim == 4 and pixels.shape[3] in (1, 3))
    if not is_shape or 0 in pixels.shape[1:] or pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"{path}: {name} is {pixels.dtype} {list(pixels.shape)}. Expected uint8 or uint16, [N, H, W] (grey) or "
            "[N, H, W, 3] (RGB).",
            public="the images in the npz have an unexpected shape or type",
        )
    pixels = pixels[..., 0] if pixels.ndim == 4 and pixels.shape[3] == 1 else pixels
    return scale_sixteen_bits(pixels) if pixels.dtype == np.uint16 else pixels.astype(np.uint8)  # type: ignore[arg-type]


def _flat_labels(path: Path, name: str, labels: NDArray[np.generic], count: int) -> NDArray[np.int64]:
    if labels.dtype.kind not in "iu" or labels.shape not in ((count,), (count, 1)):
        raise DataError(
            f"{path}: {name} is {labels.dtype} {list(labels.shape)}. Expected one label an image: whole numbers, "
            f"[{count}] or [{count}, 1].",
            public="the labels in the npz have an unexpected shape or type",
        )
    return labels.reshape(-1).astype(np.int64)


def check_labels(path: Path, labels: NDArray[np.int64], num_classes: int) -> None:
    """Raise DataError where a label is none of the classes' numbers."""
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise DataError(
            f"{path} holds labels from {labels.min()} to {labels.max()}. Expected 0 to {num_classes - 1}, the places "
            "of the classes in 'data.class-names'.",
            public="a label in the npz lies outside the classes of the run",
        )
