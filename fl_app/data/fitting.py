"""Images for a model that is finished: they fit it, or are made to fit as in training."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fl_app.data.decoding import COLOURS, Header
from fl_app.data.images import DatasetInfo
from fl_app.data.pool import Request, read_files
from fl_app.data.resizing import resize
from fl_app.data.unreadable import UnreadableImageError
from fl_app.errors import DataError


def read_images(
    paths: Sequence[Path], expected: DatasetInfo, *, may_convert: bool
) -> Iterator[Tensor | UnreadableImageError]:
    """Read files that must each hold one image of the expected channels and size, unless they may be converted.

    Args:
        paths: the files.
        expected: channels and size.
        may_convert: bring images to these as training does, and take several frames.

    Yields:
        For each file [F, C, size, size] uint8, more than one frame in DICOM only; or why it cannot be read.

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
        header: what the image was before its channels were converted.
        pixels: [F, C, H, W] uint8, of the expected channels.
        expected: channels and size.
        may_convert: if not, the image must have been like that, and be one frame.

    Raises:
        DataError: it was not.
    """
    if not may_convert:
        _check_fit(name, header, pixels, expected)
    return resize(pixels, expected.image_size)


def _check_fit(path: Path | str, header: Header, pixels: Tensor, expected: DatasetInfo) -> None:
    """Refuse an image that would have to be converted."""
    frames, _, height, width = pixels.shape
    size = expected.image_size
    if header.num_channels != expected.num_channels:
        wanted = COLOURS[expected.num_channels]
        raise DataError(
            f"{path} is {COLOURS[header.num_channels]}, the model takes {wanted} images. "
            f"Convert it to {wanted}, or let --convert do it as in training.",
            public="an image has other channels than the model takes",
        )
    if frames != 1:
        raise DataError(
            f"{path} holds {frames} frames. Expected one image a file: --convert makes each frame a line.",
            public="a file holds several images",
        )
    if (height, width) != (size, size):
        raise DataError(
            f"{path} is {width} x {height} pixels, the model takes {size} x {size}. "
            "Resize it, or let --convert do it as in training.",
            public="an image has another size than the model takes",
        )
