"""Images in files: the source `folder`, PNG and JPEG with one subfolder per class; and images to be classified."""

import difflib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from fl_app.config import DataOptions
from fl_app.data.files import given_directory
from fl_app.data.images import DatasetInfo, ImageSet
from fl_app.data.resizing import resize
from fl_app.errors import DataError, OptionError

_SUFFIXES = (".png", ".jpg", ".jpeg")
_LITTER = ("thumbs.db", "desktop.ini")  # left by file managers, as are names that start with a dot
_MODES = {1: "L", 3: "RGB"}
_COLOURS = {1: "grey", 3: "RGB"}
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_BROKEN_IMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def info(options: DataOptions) -> DatasetInfo:
    """Return what the options say; a folder cannot tell which classes the other hospitals hold.

    Raises:
        OptionError: an option that the source needs is not set, or a class is named twice.
    """
    needed = {
        "class-names": options.class_names,
        "num-channels": options.num_channels,
        "image-size": options.image_size,
    }
    missing = [f"'data.{name}'" for name, value in needed.items() if not value]
    if missing:
        raise OptionError(f"The source 'folder' needs a value for option {' and '.join(missing)}.")
    if len(set(options.class_names)) < len(options.class_names):
        raise OptionError(f"Option 'data.class-names' must name each class once, got {', '.join(options.class_names)}.")
    return DatasetInfo(options.class_names, options.num_channels, options.image_size)


def load(options: DataOptions, split: str) -> ImageSet:
    """Read the folder that the options name: see `read_folder`.

    Raises:
        OptionError: no folder is named, or as `info` raises it.
        DataError: as `read_folder` raises it.
    """
    expected = info(options)
    directory = given_directory(options)
    if directory is None:
        raise OptionError("The source 'folder' needs a folder: set option 'data.directory'.")
    return read_folder(directory, expected, split)


def read_folder(directory: Path, expected: DatasetInfo, split: str) -> ImageSet:
    """Read `<directory>/<split>/<class>/*`, or for the split `train` also `<directory>/<class>/*`.

    A missing class folder is fine: a hospital may not hold that class. Images get the expected channels and size.

    Raises:
        DataError: the folder is missing, holds no image, holds a folder that is no class, or a file that is no image.
    """
    try:
        root = _root(directory, expected.class_names, split)
        paths = _image_paths(root, expected.class_names)
    except OSError as error:
        raise _unlisted(error) from error
    if not any(paths):
        raise DataError(
            f"{root} holds no image. Expected PNG or JPEG files in subfolders named {', '.join(expected.class_names)}.",
            public="the data folder holds no image",
        )
    images = [_read(path, expected) for of_class in paths for path in of_class]
    labels = [label for label, of_class in enumerate(paths) for _ in of_class]
    return ImageSet(torch.cat(images), torch.tensor(labels, dtype=torch.int64), expected.class_names)


def find_images(directory: Path) -> tuple[list[Path], int]:
    """Search a folder and the folders in it for PNG and JPEG files.

    Returns:
        The files, sorted; and how many files of other kinds were passed over, hidden ones and litter not counted.

    Raises:
        DataError: a folder cannot be listed, or no image is found.
    """
    try:
        files = sorted(_files_below(directory))
    except OSError as error:
        raise _unlisted(error) from error
    found = [path for path in files if path.suffix.lower() in _SUFFIXES]
    if not found:
        raise DataError(f"{directory} holds no image. Expected PNG or JPEG files in it or in its subfolders.")
    return found, len(files) - len(found)


def read_image(path: Path, expected: DatasetInfo, *, may_resize: bool) -> Tensor:
    """Read one image that must have the expected channels; its size, too, unless it may be resized as in training.

    Returns:
        [1, C, size, size] uint8.

    Raises:
        DataError: it is no image, or has other channels or another size.
    """
    pixels = _decode(path, expected.num_channels, is_strict=True)
    height, width = pixels.shape[-2:]
    size = expected.image_size
    if (height, width) != (size, size) and not may_resize:
        raise DataError(
            f"{path} is {width} x {height} pixels, the model takes {size} x {size}. "
            "Resize it, or let --resize do it as in training.",
            public="an image has another size than the model takes",
        )
    return resize(pixels, size)


def _root(directory: Path, class_names: tuple[str, ...], split: str) -> Path:
    if not directory.is_dir():
        raise DataError(f"The data folder {directory} does not exist.", public="the data folder does not exist")
    if (directory / split).is_dir() and split not in class_names:
        return directory / split
    if split == "train":
        return directory
    raise DataError(f"{directory} holds no folder '{split}'.", public=f"the data folder holds no part '{split}'")


def _unlisted(error: OSError) -> DataError:
    return DataError(
        f"The data folder cannot be listed: {error}. Check who may read it.", public="the data folder cannot be listed"
    )


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _LITTER


def _visible(folder: Path) -> list[Path]:
    """List a folder in a fixed order, without what file managers leave there."""
    return sorted(path for path in folder.iterdir() if _is_visible(path.name))


def _files_below(directory: Path) -> Iterator[Path]:
    """Yield the visible files of a folder and of the folders in it; a folder that is a link is not entered."""

    def refuse(error: OSError) -> None:  # os.walk passes over what it cannot list
        raise error

    for folder, folders, names in os.walk(directory, onerror=refuse):
        folders[:] = filter(_is_visible, folders)
        yield from (Path(folder) / name for name in names if _is_visible(name))


def _image_paths(root: Path, class_names: tuple[str, ...]) -> list[list[Path]]:
    """List the files of each class, in the order of the class names."""
    for path in _visible(root):
        if path.is_dir() and path.name not in class_names:
            close = difflib.get_close_matches(path.name, class_names, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise DataError(
                f"{path} is not a class of this run; its classes are {', '.join(class_names)}.{hint}",
                public="the data folder holds a folder that is not a class of this run",
            )
        if path.is_file() and path.suffix.lower() in _SUFFIXES:
            raise DataError(f"{path} lies outside the class folders.", public="an image lies outside the class folders")
    return [_visible(root / name) if (root / name).is_dir() else [] for name in class_names]


def _read(path: Path, expected: DatasetInfo) -> Tensor:
    """Read one image as uint8 [1, C, size, size]."""
    if not path.is_file() or path.suffix.lower() not in _SUFFIXES:
        raise DataError(
            f"{path} is no PNG or JPEG file. Expected nothing else in a class folder.",
            public="a class folder holds something that is no PNG or JPEG file",
        )
    return resize(_decode(path, expected.num_channels), expected.image_size)


def _decode(path: Path, num_channels: int, is_strict: bool = False) -> Tensor:
    """Read one image upright as uint8 [1, C, H, W]; a strict reader refuses other channels, else they are converted."""
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            if image.mode not in _EIGHT_BIT_MODES:  # a conversion would clip all that is brighter than 255
                raise DataError(
                    f"{path} has more than 8 bits a pixel (mode {image.mode}). Scale its values to 0..255 first.",
                    public="an image has more than 8 bits a pixel",
                )
            if is_strict and (found := _count_channels(image)) != num_channels:
                raise DataError(
                    f"{path} is {_COLOURS[found]}, the model takes {_COLOURS[num_channels]} images. "
                    f"Convert it to {_COLOURS[num_channels]}, if that is what the model was trained on.",
                    public="an image has other channels than the model takes",
                )
            upright = ImageOps.exif_transpose(image).convert(_MODES[num_channels])
    except _BROKEN_IMAGE as error:
        raise DataError(
            f"{path} cannot be read as an image: {error}. Replace or remove it.", public="an image is broken"
        ) from error
    pixels = torch.from_numpy(np.array(upright)).reshape(1, upright.height, upright.width, num_channels)
    return pixels.permute(0, 3, 1, 2).contiguous()


def _count_channels(image: Image.Image) -> int:
    """Return 1 for grey, 3 for colour, whatever is transparent; a palette is as grey as the colours that are used."""
    if image.mode in ("P", "PA"):
        red, green, blue = image.convert("RGB").split()
        return 1 if red.tobytes() == green.tobytes() == blue.tobytes() else 3
    return 1 if image.mode in ("1", "L", "LA") else 3
