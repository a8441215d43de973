"""Images for a trained model: they must have its channels and size, or are converted as in training."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fl_app.data.decoders import read_files
from fl_app.data.decoding import COLOURS
from fl_app.data.dicom import Header
from fl_app.data.images import DatasetInfo
from fl_app.data.loading import resize
from fl_app.data.unreadable import UnreadableImageError
from fl_app.data.worker import Request
from fl_app.errors import DataError


def read_images(
    paths: Sequence[Path], expected: DatasetInfo, *, may_convert: bool
) -> Iterator[Tensor | UnreadableImageError]:
    """Read files; each must hold one image of the expected channels and size, unless it may be converted.

    Args:
        paths: the files.
        expected: channels and size.
        may_convert: convert images as in training, and accept several frames.

    Yields:
        For each file [F, C, size, size] uint8, more than one frame in DICOM only; or the error.

    Raises:
        DataError: a file holds several frames, or has other channels or another size, and may not be converted.
    """
    for path, found in zip(paths, read_files([Request(path, expected.num_channels) for path in paths]), strict=True):
        if isinstance(found, UnreadableImageError):
            yield found
            continue
        yield fit(path, found.header, torch.from_numpy(found.pixels), expected, may_convert=may_convert)


def fit(name: Path | str, header: Header, pixels: Tensor, expected: DatasetInfo, *, may_convert: bool) -> Tensor:
    """Return the frames of an image in the expected size: [F, C, size, size] uint8.

    Args:
        name: of the image, for errors.
        header: of the image, before its channels were converted.
        pixels: [F, C, H, W] uint8, with the expected channels.
        expected: channels and size.
        may_convert: if not, the image must already be one frame of the expected channels and size.

    Raises:
        DataError: it is not.
    """
    frames, _, height, width = pixels.shape
    size = expected.image_size
    if not may_convert and header.num_channels != expected.num_channels:
        wanted = COLOURS[expected.num_channels]
        raise DataError(
            f"{name} is {COLOURS[header.num_channels]}, the model takes {wanted} images. "
            f"Convert it to {wanted}, or let --convert do it as in training.",
            public="an image has other channels than the model takes",
        )
    if not may_convert and frames != 1:
        raise DataError(
            f"{name} holds {frames} frames. Expected one image a file: --convert makes each frame a line.",
            public="a file holds several images",
        )
    if not may_convert and (height, width) != (size, size):
        raise DataError(
            f"{name} is {width} x {height} pixels, the model takes {size} x {size}. "
            "Resize it, or let --convert do it as in training.",
            public="an image has another size than the model takes",
        )
    return resize(pixels, size)
