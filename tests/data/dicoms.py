"""DICOM files for tests, made as pydicom makes them."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

CANARY = "CANARY-PATIENT-4711"


def dicom_file(pixels: NDArray[Any], **tags: Any) -> Dataset:
    """Return a file of one frame [H, W] or [H, W, 3], or of several [F, H, W]; `tags` add to or replace what is in it.

    A tag of None is left out.
    """
    is_colour = pixels.ndim >= 3 and pixels.shape[-1] == 3
    shape = pixels.shape[-3:-1] if is_colour else pixels.shape[-2:]
    bits = 8 * pixels.dtype.itemsize
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    file.SOPClassUID = SecondaryCaptureImageStorage
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID
    file.Rows, file.Columns = shape
    file.BitsAllocated, file.BitsStored, file.HighBit = bits, bits, bits - 1
    file.PixelRepresentation = int(pixels.dtype.kind == "i")
    file.SamplesPerPixel = 3 if is_colour else 1
    file.PhotometricInterpretation = "RGB" if is_colour else "MONOCHROME2"
    if is_colour:
        file.PlanarConfiguration = 0
    elif pixels.ndim == 3:
        file.NumberOfFrames = len(pixels)
    file.PatientID = CANARY
    file.PixelData = pixels.tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(file, name)
        else:
            setattr(file, name, value)
    return file


def write_dicom(path: Path, pixels: NDArray[Any], compressed: str = "", **tags: Any) -> Path:
    """Write such a file, compressed with the transfer syntax of that UID if one is given; return its path."""
    file = dicom_file(pixels, **tags)
    if compressed:
        file.compress(compressed, generate_instance_uid=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)
    return path
