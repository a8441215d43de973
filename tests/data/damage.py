"""Good files of every kind that is read, and seeded damage to them."""

import random
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import RLELossless

from tests.data.dicoms import write_dicom

_OF_PYDICOM = (
    "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_small_odd_jpeg.dcm",
    "MR_small_bigendian.dcm", "image_dfl.dcm", "SC_rgb_rle_2frame.dcm",
)  # fmt: skip


def installed() -> list[Path]:
    """Return the DICOM files that lie in pydicom's own package."""
    folder = Path(pydicom.__file__).parent / "data"
    others = {".py", ".pyc", ".json", ".txt", ".md", ".icc", ".dump", ".gz"}
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix not in others)


def difference_from_pydicom(path: Path, pixels: NDArray[np.uint8]) -> int | None:
    """Return how far pixels, [F, C, H, W], lie from what pydicom's own functions make of a file, in grey levels.

    These believe every header, so that they are a judge of files without the faults that `test_dicom_values` is about.
    None: pydicom has no function for this kind (palettes) or cannot read it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            file = pydicom.dcmread(path)
            stored, kind = file.pixel_array, file.PhotometricInterpretation
            if kind == "PALETTE COLOR":
                return None
            frames = stored.reshape(len(pixels), *pixels.shape[2:], -1)
            if pixels.shape[1] == 3:
                return _largest(frames / (2 ** int(file.BitsStored) - 1), pixels)
            shown = []
            for frame in frames[..., 0]:
                values = apply_modality_lut(frame, file)
                if file.get("VOILUTSequence"):
                    item = file.VOILUTSequence[0]
                    shown.append(apply_voi_lut(values.astype(np.int64), file) / (2 ** item.LUTDescriptor[2] - 1))
                elif file.get("WindowWidth"):
                    low, high = _range(file)
                    shown.append((apply_voi_lut(values, file) - low) / (high - low))
                else:
                    values = values.astype(np.float64)
                    shown.append((values - values.min()) / max(np.ptp(values), 1e-300))
        except Exception:
            return None
    found = np.stack(shown)[..., None]
    return _largest(1 - found if kind == "MONOCHROME1" else found, pixels)


def _range(file: pydicom.Dataset) -> tuple[float, float]:
    """Return the range to which pydicom's windows map."""
    bits, is_signed = int(file.BitsStored), int(file.PixelRepresentation)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)
    slope, intercept = float(file.get("RescaleSlope", 1)), float(file.get("RescaleIntercept", 0))
    return low * slope + intercept, high * slope + intercept


def _largest(shown: NDArray[np.float64], pixels: NDArray[np.uint8]) -> int:
    expected = np.rint(np.clip(shown, 0, 1) * 255).astype(int)
    return int(np.abs(expected.transpose(0, 3, 1, 2) - pixels).max())


def write_good(folder: Path) -> list[Path]:
    """Write one small file of each kind; return their paths."""
    generator = np.random.default_rng(0)
    grey = generator.integers(0, 256, (12, 9), dtype=np.uint8)
    deep, colours = grey.astype(np.uint16) * 257, np.stack([grey] * 3, axis=-1)
    for name, pixels in (("grey", grey), ("deep", deep), ("rgb", colours)):
        Image.fromarray(pixels).save(folder / f"{name}.png")
        for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
            Image.fromarray(pixels).save(folder / f"{name}-{compression}.tif", compression=compression)
    Image.fromarray(colours).convert("P").save(folder / "palette.png")
    Image.fromarray(grey).save(folder / "turned.tif", tiffinfo={274: 6})
    Image.fromarray(colours).save(folder / "rgb.jpg")
    Image.fromarray(colours).save(folder / "progressive.jpg", progressive=True)
    Image.fromarray(colours).save(folder / "in.tif", compression="jpeg")
    write_dicom(folder / "plain.dcm", deep, WindowCenter=30_000, WindowWidth=9_000)
    write_dicom(folder / "frames.dcm", np.stack([grey] * 3))
    write_dicom(folder / "colour.dcm", colours)
    write_dicom(folder / "rle.dcm", deep, RLELossless)
    for name in _OF_PYDICOM:
        found = get_testdata_file(name, download=False)
        assert isinstance(found, str)
        (folder / name).write_bytes(Path(found).read_bytes())
    return sorted(folder.iterdir())


def damages(content: bytes, count: int, draw: random.Random) -> Iterator[bytes]:
    """Yield damaged copies: bytes changed, cut off, left out, doubled, or replaced by extreme numbers."""
    for _ in range(count):
        damaged = bytearray(content)
        kind = draw.choice(("bytes", "bytes", "header", "cut", "out", "double", "number", "number"))
        place = draw.randrange(len(damaged))
        if kind in ("bytes", "header"):
            end = min(1_500, len(damaged)) if kind == "header" else len(damaged)
            for _ in range(draw.randint(1, 8)):
                damaged[draw.randrange(end)] = draw.randrange(256)
        elif kind == "cut":
            del damaged[place:]
        elif kind == "out":
            del damaged[place : place + draw.randint(1, 64)]
        elif kind == "double":
            damaged[place:place] = damaged[place : place + draw.randint(1, 64)]
        else:
            number = draw.choice((0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF))
            size = draw.choice((1, 2, 4))
            damaged[place : place + size] = (number % 256**size).to_bytes(size, draw.choice(("little", "big")))
        yield bytes(damaged)


def all_damages(files: list[Path], folder: Path, count: int, seed: int) -> list[Path]:
    """Write so many damaged copies of each file; return their paths."""
    folder.mkdir()
    written = []
    for path in files:
        content, draw = path.read_bytes(), random.Random(f"{seed} {path.name}")
        for number, damaged in enumerate(damages(content, count, draw)):
            written.append(folder / f"{number}-{path.name}")
            written[-1].write_bytes(damaged)
    return written


def buffer_of(array: dict[str, NDArray[np.generic]]) -> bytes:
    """Return an npz of arrays as bytes."""
    buffer = BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **array)
    return buffer.getvalue()
