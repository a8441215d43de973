"""Decodes one file, of any supported format and depth, to bytes.

Nothing here imports torch, so that `fl_app.data.worker` starts in a fraction of a second.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from fl_app.data import dicom
from fl_app.data.dicom import Header
from fl_app.data.dicom_values import blocks
from fl_app.data.listing import is_dicom
from fl_app.data.unreadable import MOST_PIXELS, Fault, check_png, check_size, unreadable
from fl_app.errors import DataError, is_fault

Pixels = NDArray[np.uint8]

COLOURS = {1: "grey", 3: "RGB"}

_FORMATS = ("PNG", "JPEG", "TIFF")
_MODES = {1: "L", 3: "RGB"}
_EIGHT_BIT_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB")
_GREY_MODES = ("1", "L", "LA", "La")
_SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_SIXTEEN_BITS = 0xFFFF
_ORIENTATION = 274  # a tag of EXIF: from 5 on, rows are columns
_PHOTOMETRIC = 262  # a tag of TIFF: 0 if white is zero


@dataclass(frozen=True)
class Picture:
    """A file's images.

    Attributes:
        header: as in the file.
        pixels: [F, C, H, W] uint8, with the requested number of channels.
        own: the same with the file's own number of channels.
        is_window_ignored: it is DICOM, and names a window that means nothing.
    """

    header: Header
    pixels: Pixels
    own: Pixels
    is_window_ignored: bool = False


def read_header(path: Path) -> Header:
    """Read the header of a file, usually without its pixels.

    Raises:
        UnreadableImageError: it is missing or broken.
        DataError: it is DICOM, and the extra `dicom` is not installed.
    """
    with _errors(path):
        if is_dicom(path):
            return dicom.read_header(path)
        with _open(path) as image:
            return _header(image)


def decode(path: Path, num_channels: int = 0) -> Picture:
    """Read a file upright, its values scaled to bytes: 16 bits by v / 257, DICOM by its window.

    Args:
        path: the file.
        num_channels: 1 or 3, of the result; 0: as in the file.

    Raises:
        UnreadableImageError: it is missing or broken.
        DataError: it is DICOM, and the extra `dicom` is not installed.
    """
    with _errors(path):
        if is_dicom(path):
            header, frames, is_window_ignored = dicom.read_frames(path)
            own = _joined(frames, header.num_channels)
            pixels = own if num_channels in (0, header.num_channels) else _joined(frames, num_channels)
            return Picture(header, pixels, own, is_window_ignored)
        with _open(path) as image:
            if image.format == "PNG":
                check_png(path)
            return _picture(image, num_channels)


def decode_image(image: Image.Image, num_channels: int = 0) -> Picture:
    """Convert an image in memory as `decode` does with a file.

    Args:
        image: with 8 or 16 bits a value.
        num_channels: 1 or 3, of the result; 0: as in the image.

    Raises:
        DataError: its values are of another kind.
    """
    try:
        _check_kind(image)
        return _picture(image, num_channels)
    except Fault as fault:
        raise DataError(f"An image cannot be used: {fault}.") from None


def _picture(image: Image.Image, num_channels: int) -> Picture:
    header = _header(image)
    image.load()
    # asked first, since `exif_transpose` copies the image in any case
    upright = ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION, 1) != 1 else image
    if upright.mode not in _EIGHT_BIT_MODES:
        values = np.asarray(upright)
        if values.size and not 0 <= values.min() <= values.max() <= _SIXTEEN_BITS:
            raise Fault(f"its values reach from {values.min()} to {values.max()}; expected 0 to 65535")
        if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0:
            values = _SIXTEEN_BITS - values.astype(np.int32)  # Pillow inverts 8-bit images only
        upright = Image.fromarray(scale_sixteen_bits(values))
    own = to_pixels(upright, header.num_channels)
    wanted = num_channels or header.num_channels
    return Picture(header, own if wanted == header.num_channels else to_pixels(upright, wanted), own)


def to_pixels(image: Image.Image, num_channels: int) -> Pixels:
    """Turn an 8-bit image into [1, C, H, W] uint8, grey or RGB."""
    mode = _MODES[num_channels]
    converted = image if image.mode == mode else image.convert(mode)  # which copies in any case
    pixels = np.asarray(converted).reshape(1, converted.height, converted.width, num_channels)
    return pixels.transpose(0, 3, 1, 2)


def scale_sixteen_bits(values: NDArray[np.integer]) -> Pixels:
    """Map 0..65535 to 0..255 by v / 257, rounded; the range of the image does not matter."""
    scaled = [((block.astype(np.uint32) + 128) // 257).astype(np.uint8) for block in blocks(values)]
    return np.concatenate(scaled).reshape(values.shape)  # 257 is odd: no v / 257 lies halfway


def _joined(frames: Pixels, num_channels: int) -> Pixels:
    return np.concatenate([to_pixels(Image.fromarray(frame), num_channels) for frame in frames])


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises for a damaged file into one kind of error."""
    try:
        if not path.is_file():  # opening a pipe would wait for its writer forever
            raise Fault("it is missing" if not path.exists() else "it is no regular file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged tags; a warning may quote a patient's values
            yield
    except Fault as fault:
        raise unreadable(path, fault) from fault
    except MemoryError as error:
        raise unreadable(path, Fault("it takes too much memory to decode")) from error
    except DataError:
        raise
    except BaseException as error:
        if not is_fault(error):
            raise
        raise unreadable(path, Fault(_reason(error))) from error


def _reason(error: BaseException) -> str:
    """Say what kept Pillow from reading a file."""
    if isinstance(error, UnidentifiedImageError):
        return "its content is no PNG, JPEG or TIFF image"
    if isinstance(error, Image.DecompressionBombError):
        return f"its header says more than {MOST_PIXELS / 1e6:g} million pixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, EOFError) or "truncated" in str(error).lower():
        return "it is cut off"
    return f"its data are damaged ({type(error).__name__})"


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    """Open an image and check its kind and size."""
    # given a path, Pillow maps an uncompressed TIFF into memory, and scrambles one that is rotated by 90 degrees
    with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
        check_size(*image.size, image.width * image.height)
        if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
            raise Fault("it holds several pages; save each page as a separate file")
        _check_kind(image)
        yield image


def _check_kind(image: Image.Image) -> None:
    if image.mode not in (*_EIGHT_BIT_MODES, *_SIXTEEN_BIT_MODES):
        raise Fault(f"its values are of kind {image.mode}; save it with 8 or 16 bits a pixel")


def _header(image: Image.Image) -> Header:
    width, height = image.size
    if image.format != "TIFF" and image.getexif().get(_ORIENTATION) in (5, 6, 7, 8):  # Pillow rotates a TIFF itself
        width, height = height, width
    is_sixteen_bit = image.mode in _SIXTEEN_BIT_MODES
    num_channels = 1 if is_sixteen_bit or image.mode in _GREY_MODES else 3
    if image.mode in ("P", "PA"):  # a palette is grey if all used colours are
        red, green, blue = image.convert("RGB").split()
        num_channels = 1 if red.tobytes() == green.tobytes() == blue.tobytes() else 3
    return Header(width, height, num_channels, is_sixteen_bit=is_sixteen_bit)
