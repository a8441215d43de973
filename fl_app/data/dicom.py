"""DICOM files as bytes: rescale, window, MONOCHROME1, frames. pydicom is imported with the first file."""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fl_app.data.dicom_streams import check_streams, count_frames
from fl_app.data.dicom_values import (
    GREY,
    PALETTE,
    Lookup,
    Window,
    blocks,
    check_kind,
    colours,
    first_number,
    padding,
    read_lookup,
    read_window,
)
from fl_app.data.unreadable import Fault, NoPixels, check_size
from fl_app.errors import DataError, is_fault

if TYPE_CHECKING:
    from pydicom import Dataset

_NEEDED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "PhotometricInterpretation")
_FLOATS = ("FloatPixelData", "DoubleFloatPixelData")


@dataclass(frozen=True)
class Header:
    """The header of an image file, DICOM or another.

    Attributes:
        width: in pixels.
        height: in pixels.
        num_channels: 1 (grey) or 3 (RGB).
        num_frames: images in the file, more than 1 in DICOM only.
        patient: the patient's number in a DICOM file; empty elsewhere. It never leaves the node.
        is_sixteen_bit: its grey values are scaled by `decoding.scale_sixteen_bits`; not in DICOM.
    """

    width: int
    height: int
    num_channels: int
    num_frames: int = 1
    patient: str = ""
    is_sixteen_bit: bool = False


def read_header(path: Path) -> Header:
    """Read a file's header, without its pixels.

    Raises:
        Fault: the file is damaged, or holds no image.
        DataError: the extra `dicom` is not installed.
    """
    return _header(_read(path, stop_before_pixels=True))


def read_frames(path: Path) -> tuple[Header, NDArray[np.uint8], bool]:
    """Read the frames of a file as a screen shows them.

    Grey values are rescaled (modality LUT, or slope and intercept), then mapped to 0..255 by the VOI LUT or the first
    window of the frame's functional groups, else of the file. If there is none, or it means nothing, the frame's own
    smallest and largest value are mapped to 0 and 255. MONOCHROME1 is inverted. Colours become RGB. The pixel data
    decide the number of frames, whatever NumberOfFrames says.

    Returns:
        The header, with this number of frames; the frames, [F, H, W] or [F, H, W, 3]; and whether a window or a VOI LUT
        that means nothing was ignored.

    Raises:
        Fault: the file is damaged, too large, or of an unknown kind.
        DataError: the extra `dicom` is not installed.
    """
    read_header(path)  # checks the size before the pixels take memory
    file = _read(path)
    header = _header(file)
    if file.get("PixelData") is None:
        raise Fault("its pixel data are missing")
    stored = _stored(file)
    header = dataclasses.replace(header, num_frames=len(stored))
    if header.num_channels == 3:
        return header, colours(file, stored), False
    shown = [_grey(file, frame, number) for number, frame in enumerate(stored)]
    return header, np.stack([pixels for pixels, _ in shown]), any(is_ignored for _, is_ignored in shown)


def _read(path: Path, **options: Any) -> "Dataset":
    try:
        from pydicom import dcmread
        from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
    except ImportError:
        raise DataError(
            f"{path} is a DICOM file, and this node cannot read those yet. "
            "Install the extra: pip install 'fl-app[dicom]'.",
            public="the folder holds DICOM files, and the node lacks the extra 'dicom'",
        ) from None
    try:
        with path.open("rb") as opened:
            file = dcmread(opened, force=True, **options)  # many systems write no preamble, and some no meta header
        if not file.file_meta.get("TransferSyntaxUID"):
            is_implicit, is_little = file.original_encoding
            explicit = ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
            file.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else explicit
    except OSError as error:
        raise Fault(str(error.strerror or "it is cut off")) from error
    except MemoryError:
        raise
    except BaseException as error:  # pydicom raises nearly anything; its texts may quote a patient's values
        if not is_fault(error):
            raise
        raise Fault(f"its header is no DICOM, or damaged ({type(error).__name__})") from error
    return file


def _header(file: "Dataset") -> Header:
    try:
        return _checked_header(file)
    except Fault:
        raise
    except Exception as error:  # a value that is no number, or several of them
        raise Fault(f"its header is damaged ({type(error).__name__})") from error


def _checked_header(file: "Dataset") -> Header:
    missing = [name for name in _NEEDED if file.get(name) in (None, "")]
    if "Rows" in missing and "Columns" in missing:
        _refuse_without_image(file)
    if missing:
        raise Fault(f"its header lacks {missing[0]}")
    if any(name in file for name in _FLOATS):
        raise Fault("its values are fractions; save it with 8 or 16 bits a pixel")
    file.PhotometricInterpretation = str(file.PhotometricInterpretation).upper()  # as pydicom expects it
    check_kind(file)
    header = Header(
        width=int(file.Columns),
        height=int(file.Rows),
        num_channels=1 if file.PhotometricInterpretation in GREY else 3,
        num_frames=max(int(file.get("NumberOfFrames") or 1), 1),
        patient=str(file.get("PatientID") or "").strip(),
    )
    samples = int(file.get("SamplesPerPixel") or 1)
    if samples != (3 if header.num_channels == 3 and file.PhotometricInterpretation != PALETTE else 1):
        raise Fault(f"its header says {samples} values a pixel, which contradicts its colours")
    check_size(header.width, header.height, header.width * header.height * header.num_channels * header.num_frames)
    return header


def _stored(file: "Dataset") -> NDArray[Any]:
    """Decode the pixel data: [F, H, W], or [F, H, W, 3] of RGB (pydicom turns YBR into RGB)."""
    from pydicom.pixels.utils import pixel_array

    syntax = file.file_meta.TransferSyntaxUID
    try:
        if syntax.is_encapsulated:
            file.NumberOfFrames = max(int(file.get("NumberOfFrames") or 1), count_frames(file))
            _header(file)
            check_streams(file)
        stored = pixel_array(file)
    except Fault:
        raise
    except NotImplementedError as error:
        raise Fault(f"its compression, {_name(syntax)}, is not supported") from error
    except MemoryError:
        raise
    except BaseException as error:
        if not is_fault(error):
            raise
        raise Fault(_reason(error, _name(syntax), syntax.is_encapsulated)) from error
    samples = int(file.get("SamplesPerPixel") or 1)
    return stored if stored.ndim == (4 if samples == 3 else 3) else stored[None]


def _reason(error: BaseException, syntax: str, is_compressed: bool) -> str:
    """Say why pydicom could not decode the pixels; its own text may quote values."""
    text = str(error)
    if "missing dependencies" in text:
        return f"its compression, {syntax}, cannot be decoded here: pip install 'fl-app[dicom]'"
    if "less than expected" in text:
        return "its pixel data are shorter than its header says"
    what = f"compressed pixel data ({syntax})" if is_compressed else "pixel data"
    return f"its {what} are damaged, or not as its header says ({type(error).__name__})"


def _grey(file: "Dataset", stored: NDArray[Any], number: int) -> tuple[NDArray[np.uint8], bool]:
    """Map the values of one frame, [H, W], to bytes; tell whether a window that means nothing was ignored."""
    rescale = _rescaling(file, number)
    display, is_ignored = _display(file, number)
    low, span = 0.0, 0.0
    if isinstance(display, Lookup):
        ends = [end for block in blocks(stored) for end in _ends(rescale(block))]
        display = display.fitted(min(ends), max(ends))
    elif display is None:
        ends = [end for block in blocks(stored) for end in _ends(rescale(block)[~padding(file, block)])]
        low, span = (min(ends), max(ends) - min(ends)) if ends else (0.0, 0.0)

    def show(block: NDArray[Any]) -> NDArray[np.uint8]:
        values = rescale(block)
        if display is not None:
            shown = display.show(values)
        else:
            shown = (values - low) / span if span > 0 else np.zeros_like(values)
        if file.PhotometricInterpretation == "MONOCHROME1":
            shown = 1 - shown
        return np.asarray(np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8))

    return np.concatenate([show(block) for block in blocks(stored)]).reshape(stored.shape), is_ignored


def _rescaling(file: "Dataset", number: int) -> Any:
    """Return the function that rescales the stored values of a frame, to float64."""
    transformation = _group(file, number, "PixelValueTransformationSequence")
    if transformation is None and file.get("ModalityLUTSequence"):
        is_signed, is_little = int(file.PixelRepresentation) == 1, file.file_meta.TransferSyntaxUID.is_little_endian
        try:
            table = read_lookup(file.ModalityLUTSequence[0], is_signed, is_little)
        except ValueError:
            raise Fault("its modality lookup table is damaged") from None
        return lambda stored: table.look_up(stored).astype(np.float64)
    settings = file if transformation is None else transformation
    slope, intercept = (first_number(settings, name) for name in ("RescaleSlope", "RescaleIntercept"))
    if not all(math.isfinite(number or 0.0) for number in (slope, intercept)):
        raise Fault("its RescaleSlope or RescaleIntercept is no number")
    return lambda stored: stored.astype(np.float64) * (slope or 1.0) + (intercept or 0.0)


def _display(file: "Dataset", number: int) -> tuple[Lookup | Window | None, bool]:
    """Return the VOI LUT or the window of a frame, if any; and whether one that means nothing was ignored."""
    is_ignored = False
    for settings in (_group(file, number, "FrameVOILUTSequence"), file):
        if settings is None:
            continue
        items = settings.get("VOILUTSequence") or []
        if len(items) and len(items[0]):
            try:
                return read_lookup(items[0], False, file.file_meta.TransferSyntaxUID.is_little_endian), False
            except ValueError:
                is_ignored = True
        try:
            found = read_window(settings)
        except ValueError:
            is_ignored = True
            continue
        if found is not None:
            return found, is_ignored
    return None, is_ignored


def _ends(values: NDArray[np.float64]) -> Iterator[float]:
    """Yield the smallest and the largest value, if there is any."""
    if values.size:
        yield from (float(values.min()), float(values.max()))


def _group(file: "Dataset", number: int, sequence: str) -> "Dataset | None":
    """Return the item of a functional group that applies to a frame: its own, or the one shared by all."""
    own = file.get("PerFrameFunctionalGroupsSequence") or []
    shared = file.get("SharedFunctionalGroupsSequence") or []
    for groups in (own[number : number + 1], shared[:1]):
        for group in groups:
            if items := group.get(sequence):
                item: Dataset = items[0]
                return item
    return None


def _refuse_without_image(file: "Dataset") -> NoReturn:
    """Reject a file without rows and columns: a report or a damaged image, by the file's kind in DICOM's own list."""
    from pydicom.uid import UID

    named = str(file.get("SOPClassUID") or file.file_meta.get("MediaStorageSOPClassUID") or "")
    kind = UID(named).name
    if "Image Storage" in kind:
        raise Fault("its pixel data are missing")
    if kind != named:  # it is in the list
        raise NoPixels(f"holds no image: it is of kind '{kind}'")
    is_dicom = named or getattr(file, "preamble", None)
    raise Fault("it holds no image, or is cut off or damaged" if is_dicom else "it is no DICOM file")


def _name(uid: Any) -> str:
    """Return the name of a UID from DICOM's own list; a UID that is not in it may hold anything."""
    return "an unknown one" if uid.name == str(uid) else str(uid.name)
