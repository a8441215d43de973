"""DICOM files as bytes: rescale, window, MONOCHROME1, frames. pydicom is imported when the first file is met."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fl_app.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

Values = NDArray[np.float64]

_ONE_CHANNEL = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True)
class DicomHeader:
    """What a file says of itself; the patient's number never leaves the node."""

    width: int
    height: int
    num_channels: int
    num_frames: int
    patient: str


def read_header(path: Path) -> DicomHeader:
    """Read a file's header, without its pixels.

    Raises:
        DataError: the extra `dicom` is not installed.
        Exception: whatever pydicom raises where the file is damaged.
    """
    file = _read(path, stop_before_pixels=True)
    return DicomHeader(
        width=int(file.Columns),
        height=int(file.Rows),
        num_channels=1 if file.PhotometricInterpretation in _ONE_CHANNEL else 3,
        num_frames=int(file.get("NumberOfFrames") or 1),
        patient=str(file.get("PatientID") or "").strip(),
    )


def read_frames(path: Path) -> NDArray[np.uint8]:
    """Read the frames of a file as one sees them on a screen.

    Grey values are rescaled (modality LUT, or slope and intercept), then mapped to 0..255 by the VOI LUT or the first
    window that the frame, the file or its functional groups name; where none is named, by the frame's own smallest
    and largest value. MONOCHROME1 is inverted. Colours become RGB.

    Returns:
        [F, H, W] or [F, H, W, 3] uint8.

    Raises:
        DataError: the extra `dicom` is not installed.
        Exception: whatever pydicom or a decoder raises where the file is damaged or of an unknown kind.
    """
    file = _read(path)
    from pydicom.pixels.utils import pixel_array

    stored = pixel_array(file)
    num_frames = int(file.get("NumberOfFrames") or 1)
    if file.PhotometricInterpretation not in _ONE_CHANNEL:
        return _colours(file, stored if num_frames > 1 else stored[None])
    frames = stored if num_frames > 1 else stored[None]
    return np.stack([_grey(file, frame, number) for number, frame in enumerate(frames)])


def window(values: Values, center: float, width: float, function: str) -> Values:
    """Map values to [0, 1] as DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3 define it.

    Args:
        values: of any shape, rescaled.
        center: of the window.
        width: of the window, at least 1 for LINEAR, more than 0 else.
        function: LINEAR, LINEAR_EXACT or SIGMOID.

    Raises:
        ValueError: the width or the function is none that DICOM knows.
    """
    if width < 1 if function == "LINEAR" else width <= 0:
        raise ValueError("window width")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0, 1)
    if function != "LINEAR":
        raise ValueError("window function")
    if width == 1:
        return np.where(values > center - 0.5, 1.0, 0.0)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def _read(path: Path, **options: Any) -> "Dataset":
    try:
        from pydicom import dcmread
    except ImportError:
        raise DataError(
            f"{path} is a DICOM file, and this node cannot read those yet. "
            "Install the extra: pip install 'fl-app[dicom]'.",
            public="the folder holds DICOM files, and the node lacks the extra 'dicom'",
        ) from None
    return dcmread(path, **options)


def _grey(file: "Dataset", stored: NDArray[Any], number: int) -> NDArray[np.uint8]:
    """Map the values of one frame, [H, W], to bytes."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    values, shown = stored.astype(np.float64), None
    transformation = _group(file, number, "PixelValueTransformationSequence")
    if transformation is not None:
        values = values * float(transformation.RescaleSlope) + float(transformation.RescaleIntercept)
    elif "ModalityLUTSequence" in file:
        values = apply_modality_lut(stored, file).astype(np.float64)
    else:
        values = values * float(file.get("RescaleSlope") or 1) + float(file.get("RescaleIntercept") or 0)
    settings = _group(file, number, "FrameVOILUTSequence")
    settings = file if settings is None else settings
    if file.get("VOILUTSequence"):
        largest = 2 ** int(file.VOILUTSequence[0].LUTDescriptor[2]) - 1
        shown = apply_voi(np.rint(values).astype(np.int64), file) / largest
    elif _first(settings.get("WindowWidth")) is not None and _first(settings.get("WindowCenter")) is not None:
        function = str(settings.get("VOILUTFunction") or "LINEAR")
        shown = window(values, _first(settings.WindowCenter), _first(settings.WindowWidth), function)
    else:
        known = values[~_padding(file, stored)]
        low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
        shown = (values - low) / (high - low) if high > low else np.zeros_like(values)
    if file.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    return np.rint(np.clip(shown, 0, 1) * 255).astype(np.uint8)


def _padding(file: "Dataset", stored: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell of each stored value whether it only fills the frame up (DICOM PS3.3 C.7.5.1.1.2)."""
    value = file.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, dtype=np.bool_)
    limit = file.get("PixelPaddingRangeLimit")
    low, high = sorted((int(value), int(value if limit is None else limit)))
    return np.asarray((stored >= low) & (stored <= high))


def _colours(file: "Dataset", stored: NDArray[Any]) -> NDArray[np.uint8]:
    """Map colours, [F, H, W, 3] (pydicom has turned YBR into RGB) or a palette's [F, H, W], to bytes."""
    from pydicom.pixels.processing import apply_color_lut

    bits = int(file.BitsStored)
    if file.PhotometricInterpretation == "PALETTE COLOR":
        stored = apply_color_lut(stored, file)[..., :3]
        bits = 8 * stored.dtype.itemsize
    if stored.ndim != 4 or stored.shape[-1] != 3:
        raise ValueError("colours")
    shown: Values = stored / (2**bits - 1)
    return np.rint(shown * 255).astype(np.uint8)


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


def _first(value: Any) -> Any:
    """Return a number, the first one where there are several, or None."""
    if value is None or value == "":
        return None
    try:
        return float(value)
    except TypeError:
        return float(value[0]) if len(value) else None
