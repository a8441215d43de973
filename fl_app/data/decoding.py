"""The pixels of one file, whatever its format and depth, as bytes."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin
from torch import Tensor

from fl_app.data import dicom
from fl_app.data.listing import is_dicom
from fl_app.errors import DataError

COLOURS = {1: "grey", 3: "RGB"}

_FORMATS = ("PNG", "JPEG", "TIFF")
_MODES = {1: "L", 3: "RGB"}
_EIGHT_BIT_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB")
_GREY_MODES = ("1", "L", "LA", "La")
_SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_SIXTEEN_BITS = 0xFFFF
_PHOTOMETRIC = 262  # a tag of TIFF: 0 where white is zero
_BROKEN = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, MemoryError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


class UnreadableImageError(DataError):
    """One file is missing, broken, or of a kind that no image of this project has; the others may be well."""


@dataclass(frozen=True)
class Header:
    """What a file says of its image.

    Attributes:
        width: in pixels.
        height: in pixels.
        num_channels: 1 (grey) or 3 (RGB).
        num_frames: images in the file, more than 1 in DICOM only.
        patient: the patient's number in a DICOM file; empty elsewhere. It never leaves the node.
        is_sixteen_bit: its grey values are scaled down by `scale_sixteen_bits`.
    """

    width: int
    height: int
    num_channels: int
    num_frames: int = 1
    patient: str = ""
    is_sixteen_bit: bool = False


def read_header(path: Path) -> Header:
    """Read what a file says of its image, as a rule without its pixels.

    Raises:
        UnreadableImageError: it is missing or broken.
        DataError: it is DICOM, and the extra `dicom` is not installed.
    """
    if is_dicom(path):
        with _dicom_errors(path):
            found = dicom.read_header(path)
        return Header(found.width, found.height, found.num_channels, found.num_frames, found.patient)
    with _open(path) as image:
        width, height = ImageOps.exif_transpose(image).size
        is_sixteen_bit = image.mode in _SIXTEEN_BIT_MODES
        return Header(width, height, _count_channels(image), is_sixteen_bit=is_sixteen_bit)


def decode(path: Path, num_channels: int, *, is_strict: bool = False) -> Tensor:
    """Read a file upright, its values scaled to bytes: 16 bits by v / 257, DICOM by its window.

    Args:
        path: the file.
        num_channels: 1 or 3, of the result.
        is_strict: refuse other channels instead of converting them.

    Returns:
        [F, C, H, W] uint8; a file holds more than one frame in DICOM only.

    Raises:
        UnreadableImageError: it is missing or broken.
        DataError: it has other channels, or it is DICOM and the extra `dicom` is not installed.
    """
    if is_dicom(path):
        with _dicom_errors(path):
            frames = dicom.read_frames(path)
        pixels = [Image.fromarray(frame) for frame in frames]
        _check_channels(path, 3 if frames.ndim == 4 else 1, num_channels, is_strict)
        return torch.cat([to_tensor(frame, num_channels) for frame in pixels])
    with _open(path) as image:
        _check_channels(path, _count_channels(image), num_channels, is_strict)
        upright = ImageOps.exif_transpose(image)
        return to_tensor(_to_eight_bits(upright, path, _is_white_zero(image)), num_channels)


def to_tensor(image: Image.Image, num_channels: int) -> Tensor:
    """Turn an 8-bit image into [1, C, H, W] uint8, grey or RGB."""
    converted = image.convert(_MODES[num_channels])
    pixels = torch.from_numpy(np.array(converted)).reshape(1, converted.height, converted.width, num_channels)
    return pixels.permute(0, 3, 1, 2).contiguous()


def scale_sixteen_bits(values: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Map 0..65535 to 0..255 by v / 257, rounded: the same for every image, whatever the others hold."""
    return np.rint(values / 257.0).astype(np.uint8)


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    """Open an image; whatever a damaged file makes Pillow raise in the body becomes our error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged tags; a warning may quote them
            with Image.open(path, formats=_FORMATS) as image:
                if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
                    raise _unreadable(path, "it holds several pages; save each one as a file of its own")
                if image.mode not in (*_EIGHT_BIT_MODES, *_SIXTEEN_BIT_MODES):
                    raise _unreadable(path, f"its values are of kind {image.mode}; save it with 8 or 16 bits a pixel")
                yield image
    except _BROKEN as error:
        raise _unreadable(path, str(error)) from error


@contextmanager
def _dicom_errors(path: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning may quote a patient's values
            yield
    except DataError:
        raise
    except Exception as error:  # pydicom and its decoders raise nearly anything; their texts may quote values
        raise _unreadable(path, f"not readable as DICOM ({type(error).__name__})") from error


def _is_white_zero(image: Image.Image) -> bool:
    return isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0


def _to_eight_bits(image: Image.Image, path: Path, is_white_zero: bool) -> Image.Image:
    if image.mode in _EIGHT_BIT_MODES:
        return image
    values = np.asarray(image)
    if values.size and not 0 <= values.min() <= values.max() <= _SIXTEEN_BITS:
        raise _unreadable(path, f"its values reach from {values.min()} to {values.max()}; expected 0 to 65535")
    if is_white_zero:  # Pillow minds it in 8 bits only
        values = _SIXTEEN_BITS - values.astype(np.int64)
    return Image.fromarray(scale_sixteen_bits(values))


def _check_channels(path: Path, found: int, expected: int, is_strict: bool) -> None:
    if is_strict and found != expected:
        raise DataError(
            f"{path} is {COLOURS[found]}, the model takes {COLOURS[expected]} images. "
            f"Convert it to {COLOURS[expected]}, or let --convert do it as in training.",
            public="an image has other channels than the model takes",
        )


def _count_channels(image: Image.Image) -> int:
    """Return 1 for grey, 3 for colour, whatever is transparent; a palette is as grey as the colours that are used."""
    if image.mode in ("P", "PA"):
        red, green, blue = image.convert("RGB").split()
        return 1 if red.tobytes() == green.tobytes() == blue.tobytes() else 3
    return 1 if image.mode in (*_GREY_MODES, *_SIXTEEN_BIT_MODES) else 3


def _unreadable(path: Path, reason: str) -> UnreadableImageError:
    return UnreadableImageError(
        f"{path} cannot be read as an image: {reason}. Replace or remove it.", public="an image is broken"
    )
