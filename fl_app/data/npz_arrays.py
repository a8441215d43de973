"""Reads the arrays of an npz in MedMNIST's form, inside `fl_app.data.worker`; nothing here imports torch.

Each array is checked by the file's directory and by its own header before it is unpacked, piece by piece.
"""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fl_app.data.decoding import Pixels, scale_sixteen_bits
from fl_app.data.listing import Part
from fl_app.data.unreadable import MOST_VALUES, Fault, check_size
from fl_app.errors import DataError

PREFIXES: dict[Part, str] = {"train": "train", "validation": "val", "test": "test"}

_PIECE = 2**22  # bytes that are read at once
_MOST_IMAGES = 2_000_000
_MOST_HEADER = 10_000  # bytes of text: numpy's own limit, which it checks after it has read the text
_LARGE = 2**28  # bytes of an array: a smaller one does no harm, however well it is packed
_MOST_RATIO = 100  # of the bytes of a large array to its bytes in the file; masks reach 50, zeros 1,000


@dataclass(frozen=True)
class Description:
    """A part of an npz.

    Attributes:
        labels: [N] int64, one for each image; empty if the npz lacks the part.
        num_channels: 1 (grey) or 3 (RGB); 1 if there is no image.
        is_sixteen_bit: the images have 16 bits.
    """

    labels: NDArray[np.int64]
    num_channels: int
    is_sixteen_bit: bool


@dataclass(frozen=True)
class _Array:
    """The header of an array."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[np.generic]


def describe(path: Path, part: Part) -> Description:
    """Read the labels of a part, and the header of its images.

    Raises:
        DataError: the file is broken, or its arrays are not of MedMNIST's form.
    """
    with _open(path) as file:
        names = [_find(path, file, part, what) for what in ("images", "labels")]
        if names[0] is None or names[1] is None:
            return Description(np.zeros(0, dtype=np.int64), 1, False)
        with _open_array(path, file, names[0]) as stream:
            images = _image_header(path, names[0], _header(file, names[0], stream))
        count = images.shape[0]
        with _open_array(path, file, names[1]) as stream:
            found = _header(file, names[1], stream)
            if found.dtype.kind not in "iu" or found.shape not in ((count,), (count, 1)):
                raise DataError(
                    f"{path}: {Path(names[1]).stem} is {found.dtype.name} {list(found.shape)}. Expected one label an "
                    f"image: whole numbers, [{count}] or [{count}, 1].",
                    public="the labels in the npz have an unexpected shape or type",
                )
            labels = _read(stream, count, found.dtype).astype(np.int64)
        num_channels = 3 if count and images.shape[3:] == (3,) else 1
        return Description(labels, num_channels, images.dtype.itemsize == 2)


def read_pieces(path: Path, part: Part) -> Iterator[Pixels]:
    """Yield the images of a part, some at a time: [n, H, W, 1 or 3] uint8, 16 bits scaled to 8.

    Raises:
        DataError: as `describe` does.
    """
    with _open(path) as file:
        name = _find(path, file, part, "images")
        if name is None:
            return
        with _open_array(path, file, name) as stream:
            found = _image_header(path, name, _header(file, name, stream))
            total, *of_image = found.shape if len(found.shape) == 4 else (*found.shape, 1)
            whole = None
            if found.is_fortran:  # the first pixels of all images come first
                whole = _read(stream, math.prod(found.shape), found.dtype).reshape((total, *of_image), order="F")
            num_values = math.prod(of_image)
            count = max(_PIECE // (num_values * found.dtype.itemsize), 1)
            for first in range(0, total, count):
                num_images = min(count, total - first)
                if whole is not None:
                    piece = whole[first : first + num_images]
                else:
                    piece = _read(stream, num_images * num_values, found.dtype).reshape(num_images, *of_image)
                yield scale_sixteen_bits(piece) if found.dtype.itemsize == 2 else np.ascontiguousarray(piece)
            stream.read(1)  # at the end of the array, zipfile compares its checksum


@contextmanager
def _open(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        if not path.is_file():  # opening a pipe would wait for its writer forever
            raise ValueError("it is no regular file")
        with zipfile.ZipFile(path) as file:
            yield file
    except DataError:
        raise
    except MemoryError as error:
        raise broken(path, "it takes too much memory") from error
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds
        raise broken(path, str(error)) from error


def broken(path: Path, reason: str) -> DataError:
    """Return the error of an npz that cannot be read."""
    return DataError(f"{path} cannot be read as npz: {reason}. Replace it.", public="the npz is broken")


def _find(path: Path, file: zipfile.ZipFile, part: Part, what: str) -> str | None:
    """Return the name of an array in the file; None if the file lacks the part."""
    names = [f"{PREFIXES[part]}_{one}" for one in ("images", "labels")]
    found = [Path(name).stem for name in file.namelist() if name.endswith(".npy")]
    missing = [name for name in names if name not in found]
    if missing and (part == "train" or len(missing) == 1):
        raise DataError(
            f"{path} holds no array {missing[0]}. Expected train_images and train_labels, and val_… and test_… in "
            f"pairs; found {', '.join(found[:20]) or 'none'}.",
            public="the npz lacks an array of images or labels; expected are train_images and train_labels",
        )
    return None if missing else f"{PREFIXES[part]}_{what}.npy"


@contextmanager
def _open_array(path: Path, file: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    """Open an array, unless it is packed in an unusual way or suspiciously well."""
    stored = file.getinfo(name)
    if stored.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # numpy knows no others
        raise ValueError(f"{name} is packed in an unusual way")
    packed = max(min(stored.compress_size, path.stat().st_size), 1)
    if stored.file_size > _LARGE and stored.file_size > _MOST_RATIO * packed:
        raise DataError(
            f"{path}: {name} unpacks to {stored.file_size / 1e9:.1f} GB, {stored.file_size // packed} "
            f"times its size in the file. Expected at most {_MOST_RATIO} times: are the images empty?",
            public="the npz unpacks to more than a hundred times its size",
        )
    with file.open(name) as stream:
        yield stream


def _header(file: zipfile.ZipFile, name: str, stream: IO[bytes]) -> _Array:
    """Read shape, order and type of an array."""
    version = npy.read_magic(stream)
    length = stream.read(2 if version == (1, 0) else 4)
    if int.from_bytes(length, "little") > _MOST_HEADER:
        raise ValueError(f"the header of {name} is longer than {_MOST_HEADER} bytes")
    text = BytesIO(length + stream.read(int.from_bytes(length, "little")))
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    found = _Array(*read(text))
    if found.dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which may be programs")
    if any(side < 0 for side in found.shape):
        raise ValueError(f"the header of {name} has a negative size")
    room = file.getinfo(name).file_size
    if math.prod(found.shape) * found.dtype.itemsize > room or found.shape[:1] > (_MOST_IMAGES,):
        raise ValueError(f"the header of {name} says more values than the file holds")
    return found


def _image_header(path: Path, name: str, found: _Array) -> _Array:
    """Check that an array holds images of an allowed size."""
    shape = found.shape
    is_shape = len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))
    if not is_shape or 0 in shape[1:] or found.dtype.kind != "u" or found.dtype.itemsize > 2:
        raise DataError(
            f"{path}: {Path(name).stem} is {found.dtype.name} {list(shape)}. Expected uint8 or uint16, [N, H, W] "
            "(grey) or [N, H, W, 3] (RGB).",
            public="the images in the npz have an unexpected shape or type",
        )
    try:
        check_size(shape[2], shape[1], math.prod(shape[1:]))
    except Fault as fault:
        raise DataError(
            f"{path}: an image of {Path(name).stem} is too large: {fault}. Make the images smaller.",
            public="the images in the npz are too large",
        ) from fault
    if found.is_fortran and math.prod(shape) > MOST_VALUES:
        raise DataError(
            f"{path}: {Path(name).stem} has its {math.prod(shape) / 1e6:,.0f} million values in Fortran's order, which "
            f"is read up to {MOST_VALUES / 1e6:.0f} million. Save it again from numpy.ascontiguousarray(...).",
            public="the images in the npz are in Fortran's order and too large for it",
        )
    return found


def _read(stream: IO[bytes], count: int, dtype: np.dtype[np.generic]) -> NDArray[np.integer]:
    """Read `count` values; besides these, only one piece is in memory."""
    content = np.empty(count * dtype.itemsize, dtype=np.uint8)
    for first in range(0, len(content), _PIECE):
        piece = stream.read(min(_PIECE, len(content) - first))
        content[first : first + _PIECE] = np.frombuffer(piece, dtype=np.uint8)
    values: NDArray[np.integer] = content.view(dtype)
    return values
