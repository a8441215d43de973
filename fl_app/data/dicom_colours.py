"""The colours of a DICOM file as bytes: RGB, or places in a palette."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fl_app.data.dicom_streams import is_jpeg_2000
from fl_app.data.dicom_values import Lookup, make_lookup
from fl_app.data.unreadable import Fault

if TYPE_CHECKING:
    from pydicom import Dataset

GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"

_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", PALETTE)  # pydicom turns YBR into RGB
_COLOURS_OF_JPEG_2000 = ("YBR_ICT", "YBR_RCT")  # whose decoder does
_OTHERS = ("HSV", "CMYK", "ARGB", "YBR_PARTIAL_420", "YBR_PARTIAL_422", *_COLOURS_OF_JPEG_2000)

_BLOCK = 2**20  # values that are mapped at once: each takes 8 bytes several times over


def check_kind(file: "Dataset") -> None:
    """Refuse colours that would be shown as if they were RGB.

    Raises:
        Fault: they are of a kind that this program does not turn into grey or RGB.
    """
    kind = str(file.PhotometricInterpretation)
    is_known = kind in (*GREY, *_COLOURS)
    if not is_known and not (kind in _COLOURS_OF_JPEG_2000 and is_jpeg_2000(file.file_meta.TransferSyntaxUID)):
        told = f"as {kind}" if kind in _OTHERS else "in an unknown way"
        raise Fault(f"its header gives its colours {told}, which cannot be shown; save it as grey or RGB")


def colours(file: "Dataset", stored: NDArray[Any]) -> NDArray[np.uint8]:
    """Map colours, [F, H, W, 3], or a palette's places, [F, H, W], to bytes."""
    shape, bits = (*stored.shape[:3], 3), int(file.BitsStored)
    if file.PhotometricInterpretation == PALETTE:
        tables = _palette(file)
        bits = 16 if max(int(table.entries.max()) for table in tables) > 0xFF else 8
        found = (np.stack([table.look_up(block) for table in tables], axis=-1) for block in blocks(stored))
    elif stored.shape != shape:
        raise Fault("its pixel data are not the colours that its header says")
    else:
        found = (block for block in blocks(stored))
        if stored.size and not 0 <= int(stored.min()) <= int(stored.max()) < 2**bits:
            raise Fault(f"its colours reach beyond the {bits} bits that its header says")
    shown = [np.rint(block / (2**bits - 1) * 255).astype(np.uint8).reshape(-1) for block in found]
    return np.concatenate(shown).reshape(shape)


def _palette(file: "Dataset") -> list[Lookup]:
    """Read the three tables of a palette."""
    from pydicom.pixels.processing import _expand_segmented_lut

    is_little = bool(file.file_meta.TransferSyntaxUID.is_little_endian)
    tables = []
    for colour in ("Red", "Green", "Blue"):
        name = f"{colour}PaletteColorLookupTable"
        try:
            count, first, bits = (int(number) for number in file[f"{name}Descriptor"].value)
            data = file.get(f"{name}Data")
            if data is None:
                order, kind = "<" if is_little else ">", "B" if bits <= 8 else "H"
                words = np.frombuffer(file[f"Segmented{name}Data"].value, f"{order}{kind}")
                data = _expand_segmented_lut(tuple(words.tolist()), f"{order}{len(words)}{kind}")
            tables.append(make_lookup(count, first, bits, data, int(file.PixelRepresentation) == 1, is_little))
        except Exception as error:
            raise Fault("its palette is damaged") from error
    return tables


def blocks(values: NDArray[Any]) -> list[NDArray[Any]]:
    """Divide an array, seen as one long row, into views of bounded size."""
    return np.array_split(values.reshape(-1), max(values.size // _BLOCK, 1))
