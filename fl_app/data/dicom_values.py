"""How the stored values of a DICOM file become grey levels or colours: lookup tables, windows, padding, palettes.

Headers of real scanners are often wrong about a table or about padding; if the data contradict the header, the data
count.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fl_app.data.dicom_streams import is_jpeg_2000
from fl_app.data.unreadable import Fault

if TYPE_CHECKING:
    from pydicom import Dataset

Values = NDArray[np.float64]

GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"

_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", PALETTE)  # pydicom converts YBR to RGB
_COLOURS_OF_JPEG_2000 = ("YBR_ICT", "YBR_RCT")  # the decoder converts these
_OTHERS = ("HSV", "CMYK", "ARGB", "YBR_PARTIAL_420", "YBR_PARTIAL_422", *_COLOURS_OF_JPEG_2000)
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_LEAST_BITS = 8  # of an entry of a VOI LUT, by PS3.3 C.11.2.1.1
_BLOCK = 2**20  # values that are mapped at once: each takes 8 bytes several times over


@dataclass(frozen=True)
class Window:
    """A window that DICOM knows: see `window`."""

    center: float
    width: float
    function: str

    def show(self, values: Values) -> Values:
        """Map rescaled values to [0, 1]."""
        return window(values, self.center, self.width, self.function)


@dataclass(frozen=True)
class Lookup:
    """A lookup table.

    Attributes:
        first: the value of the first entry; smaller values get the first entry, too.
        entries: [N] int64, not negative.
    """

    first: int
    entries: NDArray[np.int64]

    def look_up(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Return the entry of each value, rounded; of the same shape."""
        places = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)  # before int64, which overflows
        return np.asarray(self.entries[places.astype(np.int64)])

    def fitted(self, low: float, high: float) -> "Lookup":
        """Return the table, its first value read as a signed number if it then fits the values better.

        Slope and intercept decide whether it is signed, and some writers ignore that: -1024 is written as 64512.

        Args:
            low: the smallest value to look up.
            high: the largest one.
        """
        if self.first < 0x8000:
            return self
        signed = Lookup(self.first - 0x10000, self.entries)
        return signed if signed._overlap(low, high) > self._overlap(low, high) else self

    def _overlap(self, low: float, high: float) -> float:
        return max(min(high, self.first + len(self.entries) - 1) - max(low, self.first) + 1, 0)

    def show(self, values: Values) -> Values:
        """Map rescaled values to [0, 1], 1 being the largest number with as many bits as the entries need.

        The number of bits in the descriptor is ignored: many tables say 16 and hold 12 (Enet4/dicom-rs#825).
        """
        num_bits = max(int(self.entries.max()).bit_length(), _LEAST_BITS)
        return np.asarray(self.look_up(values) / (2**num_bits - 1))


def window(values: Values, center: float, width: float, function: str) -> Values:
    """Map values to [0, 1] as DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3 define it.

    Args:
        values: of any shape, rescaled.
        center: of the window.
        width: of the window, at least 1 for LINEAR, more than 0 else.
        function: LINEAR, LINEAR_EXACT or SIGMOID.

    Raises:
        ValueError: DICOM has no such width or function.
    """
    if function not in _FUNCTIONS:
        raise ValueError("window function")
    least = 1 if function == "LINEAR" else math.ulp(0)
    if not (math.isfinite(center) and least <= width < math.inf):
        raise ValueError("window width")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0, 1)
    if width == 1:
        return np.where(values > center - 0.5, 1.0, 0.0)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def read_window(settings: "Dataset") -> Window | None:
    """Return the first window of a file or a functional group; None if it names none.

    Raises:
        ValueError: the window is invalid.
    """
    center, width = (first_number(settings, name) for name in ("WindowCenter", "WindowWidth"))
    if center is None or width is None:
        return None
    found = Window(center, width, str(settings.get("VOILUTFunction") or "LINEAR").strip().upper())
    found.show(np.zeros(1))
    return found


def read_lookup(item: "Dataset", is_signed: bool, is_little_endian: bool) -> Lookup:
    """Read the item of a modality or VOI LUT sequence.

    Args:
        item: with LUTDescriptor and LUTData.
        is_signed: the values to look up may be negative.
        is_little_endian: the byte order of the file.

    Raises:
        ValueError: it holds no table, or fewer entries than it says.
    """
    try:
        count, first, bits = (int(number) for number in item.LUTDescriptor)
        data = item.LUTData
    except (AttributeError, TypeError, ValueError):
        raise ValueError("lookup table") from None
    return make_lookup(count, first, bits, data, is_signed, is_little_endian)


def make_lookup(count: int, first: int, bits: int, data: Any, is_signed: bool, is_little_endian: bool) -> Lookup:
    """Build a table from the three numbers of a descriptor and its data, bytes or a list of 16-bit words.

    Raises:
        ValueError: it holds fewer entries than `count`.
    """
    count = count % 0x10000 or 0x10000  # 0 stands for 65,536, which 16 bits cannot hold
    if first >= 0x8000 and is_signed:  # written as an unsigned number
        first -= 0x10000
    if isinstance(data, bytes | bytearray | memoryview):
        raw = bytes(data)
    else:
        words = [data] if isinstance(data, int) else list(data or [])
        raw = (np.array(words, dtype=np.int64) & 0xFFFF).astype("<u2").tobytes()
        is_little_endian = True
    if len(raw) >= 2 * count:
        entries = np.frombuffer(raw, "<u2" if is_little_endian else ">u2", count)
    elif bits <= 8 and len(raw) >= count:  # two entries a word
        entries = np.frombuffer(raw, np.uint8, count)
    else:
        raise ValueError("lookup table")
    return Lookup(first, entries.astype(np.int64))


def padding(file: "Dataset", stored: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell for each stored value whether it is padding (DICOM PS3.3 C.7.5.1.1.2).

    The sign of the padding value is ignored, as it is often written as the wrong type: -2000 as 63536.
    """
    value = first_number(file, "PixelPaddingValue")
    limit = first_number(file, "PixelPaddingRangeLimit")
    limit = value if limit is None else limit
    if value is None or limit is None or not math.isfinite(value + limit):
        return np.zeros(stored.shape, dtype=np.bool_)
    span = 2 ** int(file.BitsAllocated)
    ends = [int(end) % span for end in (value, limit)]
    if stored.dtype.kind == "i" or min(value, limit) < 0:
        ends = [end - span if end >= span // 2 else end for end in ends]
    low, high = min(ends), max(ends)
    # modulo: if values are unsigned, the ten largest ones belong to -10 to 10, too
    return np.asarray((stored.astype(np.int64) - low) % span <= high - low)


def first_number(file: "Dataset", name: str) -> float | None:
    """Return the number, or the first of several numbers, of an element; None if it is empty, NaN if it is damaged."""
    try:
        value = file.get(name)
        if value is None or value == "":
            return None
        if isinstance(value, str | int | float):
            return float(value)
        return float(value[0]) if len(value) else None
    except Exception:  # pydicom converts when asked; a decimal comma is no number
        return math.nan


def check_kind(file: "Dataset") -> None:
    """Reject colours that would be shown as if they were RGB.

    Raises:
        Fault: this program cannot turn them into grey or RGB.
    """
    kind = str(file.PhotometricInterpretation)
    is_known = kind in (*GREY, *_COLOURS)
    if not is_known and not (kind in _COLOURS_OF_JPEG_2000 and is_jpeg_2000(file.file_meta.TransferSyntaxUID)):
        told = f"as {kind}" if kind in _OTHERS else "in an unknown way"
        raise Fault(f"its header gives its colours {told}, which cannot be shown; save it as grey or RGB")


def colours(file: "Dataset", stored: NDArray[Any]) -> NDArray[np.uint8]:
    """Map colours, [F, H, W, 3], or places in a palette, [F, H, W], to bytes, [F, H, W, 3]."""
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
    """Divide an array, seen as one long row, into views of limited size."""
    return np.array_split(values.reshape(-1), max(values.size // _BLOCK, 1))
