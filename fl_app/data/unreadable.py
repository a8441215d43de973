"""What is wrong with a file that cannot be read, in words that its owner understands."""

from pathlib import Path

from fl_app.errors import DataError

MOST_PIXELS = 50_000_000  # of one frame; decoding takes up to 16 bytes a pixel
MOST_VALUES = 2**27  # of all frames and channels of one file


class UnreadableImageError(DataError):
    """One file is missing, broken, or of a kind that no image of this project has; the others may be well."""


class NoPixelsError(UnreadableImageError):
    """A DICOM file is a report, a plan or the like: nothing of it is an image."""


class Fault(Exception):
    """The reason why a file cannot be read: a phrase without the file's name and without values of a patient."""


class NoPixels(Fault):
    """The reason is that the file holds no image and never did."""


def unreadable(path: Path, fault: Fault) -> UnreadableImageError:
    """Turn a reason into the error that names the file."""
    if isinstance(fault, NoPixels):
        return NoPixelsError(f"{path} {fault}.", public="a DICOM file holds no image")
    return UnreadableImageError(
        f"{path} cannot be read as an image: {fault}. Replace or remove it.", public="an image is broken"
    )


def check_size(width: int, height: int, num_values: int) -> None:
    """Refuse what would take too much memory, by what the file's header says, before any pixel is decoded.

    Args:
        width: of a frame, in pixels.
        height: of a frame, in pixels.
        num_values: pixels times channels times frames.

    Raises:
        Fault: there is nothing in it, or more than this program decodes.
    """
    if min(width, height, num_values) < 1:
        raise Fault(f"it says that it is {width} x {height} pixels")
    if width * height > MOST_PIXELS:
        raise Fault(f"it says that it is {width} x {height} pixels, more than {MOST_PIXELS / 1e6:g} million")
    if num_values > MOST_VALUES:
        raise Fault(
            f"its frames hold {num_values / 1e6:,.0f} million values, more than {MOST_VALUES / 1e6:.0f} million"
        )
