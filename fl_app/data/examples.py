"""Images to try a hospital's node with: the digits that come along, as a folder for each class."""

import os
import shutil
from pathlib import Path

from PIL import Image

from fl_app.data.digits import read_digits
from fl_app.errors import DataError, OptionError


def write_examples(folder: Path, number: int, total: int) -> int:
    """Write one hospital's share of the training digits as PNG files; a class that has a folder is left as it is.

    Each class folder appears whole or not at all.

    Args:
        folder: gets a folder for each of the ten digits; made where it is missing.
        number: which hospital's share, 1 to `total`; the shares are disjoint, and together they are all images.
        total: hospitals.

    Returns:
        How many images were written.

    Raises:
        OptionError: there is no such share.
        DataError: the folder cannot be written.
    """
    if not 1 <= number <= total:
        raise OptionError(f"--share must be 1 to {total}, as many as --of says, got {number}.")
    images = read_digits("train")
    pixels, labels = images.images[number - 1 :: total, 0].numpy(), images.labels[number - 1 :: total].tolist()
    count = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for label, name in enumerate(images.class_names):
            if (folder / name).exists():
                continue
            partial = folder / f".{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            for position in (position for position, own in enumerate(labels) if own == label):
                Image.fromarray(pixels[position]).save(partial / f"{position:04d}.png")
                count += 1
            os.rename(partial, folder / name)
    except OSError as error:
        raise DataError(f"No images can be written to {folder}: {error.strerror}.") from error
    return count
