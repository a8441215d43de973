"""The size that compressed pixel data say of themselves, against the size that the DICOM header says.

A decoder believes the one and pydicom the other: where they differ, rows are cut at the wrong width and nobody notices.
"""

import struct
from typing import TYPE_CHECKING

from fl_app.data.unreadable import Fault

if TYPE_CHECKING:
    from pydicom import Dataset

_JPEG_START = b"\xff\xd8"
_JPEG_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # markers of a size; F7: of JPEG-LS
_JPEG_SCAN = 0xDA
_JPEG_BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_JPEG_2000_SIZE = b"\xff\x4f\xff\x51"  # start of a code stream, and the marker of its size


def is_jpeg_2000(syntax: str) -> bool:
    """Tell whether a transfer syntax is JPEG 2000, high throughput included."""
    from pydicom import uid

    return syntax in (*uid.JPEG2000TransferSyntaxes, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)


def check_streams(file: "Dataset") -> None:
    """Compare the size of each compressed frame with Rows, Columns and SamplesPerPixel.

    Raises:
        Fault: they differ, or a frame says no size.
    """
    from pydicom import uid
    from pydicom.encaps import generate_frames

    syntax = file.file_meta.TransferSyntaxUID
    is_rle = syntax == uid.RLELossless
    if not (is_rle or is_jpeg_2000(syntax) or syntax in (*uid.JPEGTransferSyntaxes, *uid.JPEGLSTransferSyntaxes)):
        return  # nothing that is decoded
    width, height, samples = int(file.Columns), int(file.Rows), int(file.get("SamplesPerPixel") or 1)
    for frame in generate_frames(file.PixelData, number_of_frames=int(file.NumberOfFrames)):
        if is_rle:
            _check_run_lengths(frame, width * height)
            continue
        found = _size_of_jpeg_2000(frame) if is_jpeg_2000(syntax) else _size_of_jpeg(frame)
        if found is None:
            raise Fault("its compressed pixel data say no size: they are cut off or damaged")
        if found[:2] != (width, height):
            raise Fault(
                f"its compressed pixel data are {found[0]} x {found[1]} pixels, and its header says {width} x {height}"
            )
        if found[2] != samples:
            raise Fault(f"its compressed pixel data are {found[2]} values a pixel, and its header says {samples}")


def _size_of_jpeg(stream: bytes) -> tuple[int, int, int] | None:
    """Return width, height and values a pixel of JPEG, lossless JPEG or JPEG-LS (ITU-T T.81 B.2.2, T.87 C.2.2)."""
    place = stream.find(_JPEG_START)
    while 0 <= place < len(stream) - 10 and stream[place] == 0xFF:
        kind = stream[place + 1]
        if kind in _JPEG_FRAMES:
            height, width, samples = struct.unpack_from(">HHB", stream, place + 5)
            return width, height, samples
        if kind == _JPEG_SCAN:
            return None
        if kind == 0xFF:  # fills up
            place += 1
        elif kind in _JPEG_BARE:
            place += 2
        else:
            place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
    return None


def _size_of_jpeg_2000(stream: bytes) -> tuple[int, int, int] | None:
    """Return width, height and values a pixel (ITU-T T.800 A.5.1), whether or not boxes stand around the stream."""
    place = stream.find(_JPEG_2000_SIZE)
    if place < 0 or len(stream) < place + 42:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", stream, place + 8)
    (samples,) = struct.unpack_from(">H", stream, place + 40)
    return right - left, bottom - top, samples


def _check_run_lengths(frame: bytes, num_pixels: int) -> None:
    """Compare the decoded length of each segment, one byte of each pixel, with the number of pixels (PS3.5 G)."""
    if len(frame) < 64:
        raise Fault("its compressed pixel data are cut off")
    count, *offsets = struct.unpack_from("<16I", frame)
    starts = offsets[: min(count, len(offsets))]
    for start, end in zip(starts, [*starts[1:], len(frame)], strict=True):
        found = _unpacked_length(frame[start:end])
        if found not in (num_pixels, num_pixels + num_pixels % 2):  # some make it even
            raise Fault(f"its compressed pixel data hold {found} pixels, and its header says {num_pixels}")


def _unpacked_length(segment: bytes) -> int:
    total, place, end = 0, 0, len(segment)
    while place < end - 1:  # the last byte may fill up
        head = segment[place]
        if head < 128:  # so many bytes as they are, and one more
            total += min(head + 1, end - place - 1)
            place += head + 2
        elif head > 128:  # one byte several times
            total += 257 - head
            place += 2
        else:
            place += 1
    return total
