"""Compares the size in a DICOM header with the size that the compressed pixel data state themselves.

A decoder uses the latter and pydicom the former: if they differ, rows are cut at the wrong width and nobody notices.
"""

import struct
from io import BytesIO
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


def count_frames(file: "Dataset") -> int:
    """Count the frames of compressed pixel data, by the offset table, else by the fragments that end a frame."""
    from pydicom.encaps import generate_fragments, parse_basic_offsets
    from pydicom.uid import RLELossless

    offsets = parse_basic_offsets(file.PixelData)
    if offsets:
        return len(offsets)
    encoded = BytesIO(file.PixelData)
    encoded.seek(8)  # after the empty offset table
    ends = [b"\xff\xd9" in fragment[-10:] for fragment in generate_fragments(encoded)]
    if file.file_meta.TransferSyntaxUID == RLELossless:  # PS3.5 A.4.2: one fragment a frame
        return len(ends)
    return len(ends) if all(ends) else 1


def check_streams(file: "Dataset") -> None:
    """Compare the size of each compressed frame with Rows, Columns and SamplesPerPixel.

    Raises:
        Fault: they differ, or a frame states no size.
    """
    from pydicom import uid
    from pydicom.encaps import generate_frames

    syntax = file.file_meta.TransferSyntaxUID
    is_rle = syntax == uid.RLELossless
    if not (is_rle or is_jpeg_2000(syntax) or syntax in (*uid.JPEGTransferSyntaxes, *uid.JPEGLSTransferSyntaxes)):
        return  # not compressed, or not decoded here
    width, height, samples = int(file.Columns), int(file.Rows), int(file.get("SamplesPerPixel") or 1)
    for frame in generate_frames(file.PixelData, number_of_frames=int(file.NumberOfFrames)):
        if is_rle:
            _check_run_lengths(frame, width * height)
            continue
        found = _size_of(frame, is_jpeg_2000(syntax))
        if found is None:
            raise Fault("its compressed pixel data state no size: they are cut off or damaged")
        if found[:2] != (width, height):
            raise Fault(
                f"its compressed pixel data are {found[0]} x {found[1]} pixels, and its header says {width} x {height}"
            )
        if found[2] != samples:
            raise Fault(f"its compressed pixel data are {found[2]} values a pixel, and its header says {samples}")


def _size_of(stream: bytes, is_2000: bool) -> tuple[int, int, int] | None:
    """Return width, height and values a pixel of a JPEG stream; None if it states no size.

    JPEG 2000: ITU-T T.800 A.5.1, with or without boxes around the stream. JPEG, lossless JPEG and JPEG-LS: ITU-T T.81
    B.2.2, T.87 C.2.2.
    """
    place = stream.find(_JPEG_2000_SIZE if is_2000 else _JPEG_START)
    if is_2000:
        if place < 0 or len(stream) < place + 42:
            return None
        right, bottom, left, top = struct.unpack_from(">4I", stream, place + 8)
        (samples,) = struct.unpack_from(">H", stream, place + 40)
        return right - left, bottom - top, samples
    while 0 <= place < len(stream) - 10 and stream[place] == 0xFF:
        kind = stream[place + 1]
        if kind in _JPEG_FRAMES:
            height, width, samples = struct.unpack_from(">HHB", stream, place + 5)
            return width, height, samples
        if kind == _JPEG_SCAN:
            return None
        if kind == 0xFF:  # padding
            place += 1
        elif kind in _JPEG_BARE:
            place += 2
        else:
            place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
    return None


def _check_run_lengths(frame: bytes, num_pixels: int) -> None:
    """Compare the decoded length of each RLE segment, one byte of each pixel, with the number of pixels (PS3.5 G)."""
    if len(frame) < 64:
        raise Fault("its compressed pixel data are cut off")
    count, *offsets = struct.unpack_from("<16I", frame)
    starts = offsets[: min(count, len(offsets))]
    for start, stop in zip(starts, [*starts[1:], len(frame)], strict=True):
        segment = frame[start:stop]
        found, place, end = 0, 0, len(segment)
        while place < end - 1:  # the last byte may be padding
            head = segment[place]
            if head < 128:  # the next head + 1 bytes as they are
                found += min(head + 1, end - place - 1)
                place += head + 2
            elif head > 128:  # the next byte, repeated
                found += 257 - head
                place += 2
            else:
                place += 1
        if found not in (num_pixels, num_pixels + num_pixels % 2):  # some make it even
            raise Fault(f"its compressed pixel data hold {found} pixels, and its header says {num_pixels}")
