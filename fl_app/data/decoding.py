"""The pixels of one file, whatever its format and depth, as bytes.

Nothing here imports torch: `fl_app.data.worker` starts in a fraction of a second.
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
from fl_app.data.dicom_colours import blocks
from fl_app.data.listing import is_dicom
from fl_app.data.png import check_png
from fl_app.data.unreadable import MOST_PIXELS, Fault, check_size, unreadable
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
_PHOTOMETRIC = 262  # a tag of TIFF: 0 where white is zero


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


@dataclass(frozen=True)
class Picture:
    """A file's images.

    Attributes:
        header: what it says of itself.
        pixels: [F, C, H, W] uint8, of the channels that were asked for.
        own: the same in its own channels.
        is_window_ignored: it is DICOM, and names a window that means nothing.
    """

    header: Header
    pixels: Pixels
    own: Pixels
    is_window_ignored: bool = False


def read_header(path: Path) -> Header:
    """Read what a file says of its image, as a rule without its pixels.

    Raises:
        UnreadableImageError: it is missing or broken.
        DataError: it is DICOM, and the extra `dicom` is not installed.
    """
    with _errors(path):
        if is_dicom(path):
            found = dicom.read_header(path)
            return Header(found.width, found.height, found.num_channels, found.num_frames, found.patient)
        with _open(path) as image:
            return _header(image)


def decode(path: Path, num_channels: int = 0) -> Picture:
    """Read a file upright, its values scaled to bytes: 16 bits by v / 257, DICOM by its window.

    Args:
        path: the file.
        num_channels: 1 or 3, of the result; 0: as the file has it.

    Raises:
        UnreadableImageError: it is missing or broken.
        DataError: it is DICOM, and the extra `dicom` is not installed.
    """
    with _errors(path):
        if is_dicom(path):
            return _decode_dicom(path, num_channels)
        with _open(path) as image:
            if image.format == "PNG":
                check_png(path)
            return _picture(image, num_channels)


def decode_image(image: Image.Image, num_channels: int = 0) -> Picture:
    """Take over an image that lies in memory, as `decode` reads it from a file.

    Args:
        image: with 8 or 16 bits a value.
        num_channels: 1 or 3, of the result; 0: as the image has it.

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
    upright = _to_eight_bits(_upright(image), _is_white_zero(image))
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
    """Map 0..65535 to 0..255 by v / 257, rounded: the same for every image, whatever the others hold."""
    scaled = [((block.astype(np.uint32) + 128) // 257).astype(np.uint8) for block in blocks(values)]
    return np.concatenate(scaled).reshape(values.shape)  # 257 is odd: no v / 257 lies half way


def _decode_dicom(path: Path, num_channels: int) -> Picture:
    found = dicom.read_header(path)
    frames = dicom.read_frames(path)
    header = Header(found.width, found.height, found.num_channels, len(frames.pixels), found.patient)
    own = _joined(frames.pixels, header.num_channels)
    pixels = own if num_channels in (0, header.num_channels) else _joined(frames.pixels, num_channels)
    return Picture(header, pixels, own, frames.is_window_ignored)


def _joined(frames: Pixels, num_channels: int) -> Pixels:
    return np.concatenate([to_pixels(Image.fromarray(frame), num_channels) for frame in frames])


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes a decoder raise into the one error that says so."""
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
        return "it is no PNG, JPEG or TIFF file inside, whatever its name says"
    if isinstance(error, Image.DecompressionBombError):
        return f"it says that it has more than {MOST_PIXELS / 1e6:g} million pixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, EOFError) or "truncated" in str(error).lower():
        return "it is cut off"
    return f"its data are damaged ({type(error).__name__})"


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    """Open an image that is of a kind and a size that this program reads."""
    # given a path, Pillow maps an uncompressed TIFF into memory, and scrambles one that is turned by 90 degrees
    with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
        check_size(*image.size, image.width * image.height)
        if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
            raise Fault("it holds several pages; save each one as a file of its own")
        _check_kind(image)
        yield image


def _check_kind(image: Image.Image) -> None:
    if image.mode not in (*_EIGHT_BIT_MODES, *_SIXTEEN_BIT_MODES):
        raise Fault(f"its values are of kind {image.mode}; save it with 8 or 16 bits a pixel")


def _upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF data say; `exif_transpose` copies it in any case."""
    image.load()
    return ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION, 1) != 1 else image


def _header(image: Image.Image) -> Header:
    width, height = image.size
    if image.format != "TIFF" and image.getexif().get(_ORIENTATION) in (5, 6, 7, 8):  # Pillow turns a TIFF itself
        width, height = height, width
    return Header(width, height, _count_channels(image), is_sixteen_bit=image.mode in _SIXTEEN_BIT_MODES)


def _is_white_zero(image: Image.Image) -> bool:
    return isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0


def _to_eight_bits(image: Image.Image, is_white_zero: bool) -> Image.Image:
    if image.mode in _EIGHT_BIT_MODES:
        return image
    values = np.asarray(image)
    if values.size and not 0 <= values.min() <= values.max() <= _SIXTEEN_BITS:
        raise Fault(f"its values reach from {values.min()} to {values.max()}; expected 0 to 65535")
    if is_white_zero:  # Pillow minds it in 8 bits only
        values = _SIXTEEN_BITS - values.astype(np.int32)
    return Image.fromarray(scale_sixteen_bits(values))


def _count_channels(image: Image.Image) -> int:
    """Return 1 for grey, 3 for colour, whatever is transparent; a palette is as grey as the colours that are used."""
    if image.mode in ("P", "PA"):
        red, green, blue = image.convert("RGB").split()
        return 1 if red.tobytes() == green.tobytes() == blue.tobytes() else 3
    return 1 if image.mode in (*_GREY_MODES, *_SIXTEEN_BIT_MODES) else 3
