"""Which images of a folder without a test part become its test set: a keyed hash decides, image by image."""

import hashlib
import logging
from collections.abc import Sequence

from torch import Tensor

log = logging.getLogger(__name__)

# No secret: it makes this draw another one than that of any program that hashes the same names.
_KEY = b"fl-app test part"


def patient_identity(name: str) -> bytes:
    """Return what stands for all images of a patient; `name`: as the folder gives it."""
    return b"patient\0" + name.encode("utf-8", "backslashreplace")


def pixel_identity(pixels: Tensor) -> bytes:
    """Return what stands for a file of no known patient: its pixels, so that copies of a file stay together.

    Args:
        pixels: [F, C, H, W] uint8 as decoded, before the run's size and channels change them.
    """
    return b"pixels\0" + repr(tuple(pixels.shape)).encode() + b"\0" + pixels.contiguous().numpy().tobytes()


def test_position(identity: bytes) -> float:
    """Return a keyed hash of what stands for an image, evenly spread over [0, 1).

    Args:
        identity: as `patient_identity` and `pixel_identity` return it.
    """
    digest = hashlib.blake2b(identity, digest_size=8, key=_KEY).digest()
    return int.from_bytes(digest, "big") / 2**64


def choose_test(positions: Sequence[float], share: float) -> list[bool]:
    """Tell of each position whether it belongs to the test part: whether it lies below the share.

    The answer for one does not depend on the others, on a seed or on the order. So a folder that grows keeps
    its parts. The exception: if all of them lie below the share, none belongs to the test part, because training needs
    images.

    Args:
        positions: from `test_position`.
        share: of the patients, or of the images of no known patient, in [0, 1).
    """
    chosen = [position < share for position in positions]
    if chosen and all(chosen):
        log.warning("All images would fall into the test part: none is tested on. Are there more images or patients?")
        return [False] * len(chosen)
    if chosen and share > 0 and not any(chosen):
        log.warning("No image falls into the test part: none is tested on. Are there more images or patients?")
    return chosen
