"""A folder with an npz in MedMNIST's form: train_images, train_labels, and such pairs of val_… and test_… if any.

Images are read piece by piece, so that a large file takes no more memory than the images that are kept.
"""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fl_app.data.decoding import Pixels, scale_sixteen_bits, to_pixels
from fl_app.data.images import DatasetInfo, ImageSet
from fl_app.data.listing import visible
from fl_app.data.parts import Part
from fl_app.data.resizing import resize
from fl_app.errors import DataError

_PREFIXES: dict[Part, str] = {"train": "train", "validation": "val", "test": "test"}
_PIECE = 2**22  # bytes of images that are read at once
_MOST_IMAGES = 2_000_000
_LARGE = 2**28  # bytes of an array: a smaller one harms nobody, however well it is packed
_MOST_RATIO = 100  # of the bytes of a large array to its bytes in the file; masks reach 50, zeros 1,000


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
    labels = read_labels(path, part)
    check_labels(path, labels, len(expected.class_names))
    size = expected.image_size
    blank = torch.zeros(0, expected.num_channels, size, size, dtype=torch.uint8)
    images = [resize(_tensor(image, expected.num_channels), size) for image in read_images(path, part)]
    return ImageSet(torch.cat([blank, *images]), torch.from_numpy(labels), expected.class_names)


def own_pixels(path: Path, part: Part) -> Iterator[Tensor]:
    """Yield the images of a part one by one as they are, [1, C, H, W] uint8 of the file's own channels and size.

    Raises:
        DataError: as `read_npz` does.
    """
    return (_tensor(image, 1 if image.ndim == 2 else 3) for image in read_images(path, part))


def read_images(path: Path, part: Part) -> Iterator[Pixels]:
    """Yield the images of a part one by one as they are, [H, W] or [H, W, 3] uint8, 16 bits scaled to 8.

    Raises:
        DataError: as `read_npz` does.
    """
    with _open(path) as file:
        name = _find(path, file, part, "images")
        if name is None:
            return
        with file.open(name) as stream:
            shape, is_fortran, dtype = _image_header(path, file, name, stream)
            of_one = math.prod(shape[1:])
            count = max(_PIECE // max(of_one * dtype.itemsize, 1), 1)
            pieces = range(0, shape[0], count)
            whole = _read(stream, math.prod(shape), dtype).reshape(shape, order="F") if is_fortran else None
            for first in pieces:
                num_images = min(count, shape[0] - first)
                if whole is not None:
                    piece = whole[first : first + num_images]
                else:
                    piece = _read(stream, num_images * of_one, dtype).reshape(num_images, *shape[1:])
                piece = piece[..., 0] if piece.ndim == 4 and piece.shape[3] == 1 else piece
                yield from scale_sixteen_bits(piece) if dtype.itemsize == 2 else np.ascontiguousarray(piece)
            stream.read(1)  # at the end of the array its checksum is compared


def read_labels(path: Path, part: Part) -> NDArray[np.int64]:
    """Return the labels of a part, [N] int64; there is one for each image.

    Raises:
        DataError: as `read_npz` does.
    """
    with _open(path) as file:
        names = [_find(path, file, part, what) for what in ("images", "labels")]
        if names[0] is None or names[1] is None:
            return np.zeros(0, dtype=np.int64)
        with file.open(names[0]) as stream:
            count = _image_header(path, file, names[0], stream)[0][0]
        with file.open(names[1]) as stream:
            shape, _, dtype = _header(path, file, names[1], stream)
            if dtype.kind not in "iu" or shape not in ((count,), (count, 1)):
                raise DataError(
                    f"{path}: {Path(names[1]).stem} is {dtype.name} {list(shape)}. Expected one label an image: whole "
                    f"numbers, [{count}] or [{count}, 1].",
                    public="the labels in the npz have an unexpected shape or type",
                )
            return _read(stream, count, dtype).astype(np.int64)


def classes_and_channels(path: Path) -> tuple[tuple[str, ...], int]:
    """Return the classes, named by their numbers up to the largest one of any part, and the number of channels.

    Raises:
        DataError: as `read_npz` does.
    """
    found = [read_labels(path, part) for part in _PREFIXES]
    largest = max((int(labels.max()) for labels in found if len(labels)), default=-1)
    for labels in found:
        check_labels(path, labels, largest + 1)
    firsts = (next(read_images(path, part), None) for part in _PREFIXES)
    num_channels = 3 if any(image is not None and image.ndim == 3 for image in firsts) else 1
    return tuple(str(number) for number in range(largest + 1)), num_channels


def is_sixteen_bit(path: Path, part: Part) -> bool:
    """Tell whether the images of a part have 16 bits.

    Raises:
        DataError: as `read_npz` does.
    """
    with _open(path) as file:
        name = _find(path, file, part, "images")
        if name is None:
            return False
        with file.open(name) as stream:
            return _image_header(path, file, name, stream)[2].itemsize == 2


def check_labels(path: Path, labels: NDArray[np.int64], num_classes: int) -> None:
    """Raise DataError where a label is none of the classes' numbers."""
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise DataError(
            f"{path} holds labels from {labels.min()} to {labels.max()}. Expected 0 to {num_classes - 1}, the places "
            "of the classes in 'data.class-names'.",
            public="a label in the npz lies outside the classes of the run",
        )


@contextmanager
def _open(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        if not path.is_file():  # a pipe would wait for its writer forever
            raise ValueError("it is no regular file")
        with zipfile.ZipFile(path) as file:
            yield file
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib and numpy have a dozen ways to choke on bytes
        raise DataError(f"{path} cannot be read as npz: {error}. Replace it.", public="the npz is broken") from error


def _find(path: Path, file: zipfile.ZipFile, part: Part, what: str) -> str | None:
    """Return the name of an array in the file; None if the part is not there."""
    names = [f"{_PREFIXES[part]}_{one}" for one in ("images", "labels")]
    found = [Path(name).stem for name in file.namelist() if name.endswith(".npy")]
    missing = [name for name in names if name not in found]
    if missing and (part == "train" or len(missing) == 1):
        raise DataError(
            f"{path} holds no array {missing[0]}. Expected train_images and train_labels, and val_… and test_… in "
            f"pairs; found {', '.join(found) or 'none'}.",
            public="the npz lacks an array of images or labels",
        )
    return None if missing else f"{_PREFIXES[part]}_{what}.npy"


def _image_header(
    path: Path, file: zipfile.ZipFile, name: str, stream: IO[bytes]
) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    shape, is_fortran, dtype = _header(path, file, name, stream)
    is_shape = len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))
    if not is_shape or 0 in shape[1:] or dtype.kind != "u" or dtype.itemsize > 2:
        raise DataError(
            f"{path}: {Path(name).stem} is {dtype.name} {list(shape)}. Expected uint8 or uint16, [N, H, W] (grey) or "
            "[N, H, W, 3] (RGB).",
            public="the images in the npz have an unexpected shape or type",
        )
    return shape, is_fortran, dtype


def _header(
    path: Path, file: zipfile.ZipFile, name: str, stream: IO[bytes]
) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Read shape, order and type of an array; its size is judged before it is unpacked."""
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, is_fortran, dtype = read(stream)
    stored = file.getinfo(name)
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which may be programs")
    if math.prod(shape) * dtype.itemsize > stored.file_size or shape[:1] > (_MOST_IMAGES,):
        raise ValueError(f"{name} says that it holds more than there is room for")
    if stored.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # numpy knows no others
        raise ValueError(f"{name} is packed in an unusual way")
    if stored.file_size > _LARGE and stored.file_size > _MOST_RATIO * stored.compress_size:
        raise DataError(
            f"{path}: {name} unpacks to {stored.file_size / 1e9:.1f} GB, {stored.file_size // stored.compress_size} "
            f"times its size in the file. Expected at most {_MOST_RATIO} times: are the images empty?",
            public="the npz unpacks to more than a hundred times its size",
        )
    return shape, is_fortran, dtype


def _read(stream: IO[bytes], count: int, dtype: np.dtype[np.generic]) -> NDArray[np.integer]:
    """Read so many values, in the byte order of this machine."""
    content = stream.read(count * dtype.itemsize)
    values: NDArray[np.integer] = np.frombuffer(content, dtype, count).astype(dtype.newbyteorder("="))
    return values


def _tensor(image: Pixels, num_channels: int) -> Tensor:
    return torch.from_numpy(to_pixels(Image.fromarray(image), num_channels).copy())
