"""The source `digits`: 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn; also as example files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fl_app.data.images import DatasetInfo, ImageSet, read_by_part
from fl_app.data.partition import stratified_choice
from fl_app.errors import OptionError
from fl_app.files import replace_folder
from fl_app.options.images import DataOptions
from fl_app.seeding import numpy_generator_for

_TEST_SHARE = 0.2
_MAX_VALUE = 16  # the values are counts of set pixels in blocks of 4 x 4
_INFO = DatasetInfo(tuple(str(digit) for digit in range(10)), num_channels=1, image_size=8)


def info(options: DataOptions) -> DatasetInfo:
    """Return classes, channels and the size before resizing."""
    return _INFO


def load(options: DataOptions, split: str) -> ImageSet:
    """Read one part; 80 % of each class are for training, the same ones for every seed of a run."""
    return read_digits(split)


def read_digits(split: str) -> ImageSet:
    """Read one part, `train` or `test`, without any options."""
    from sklearn.datasets import load_digits  # slow to import, and needed for this source only

    published = load_digits()
    images, labels = published.images, published.target.astype(np.int64)
    drawn = stratified_choice(labels, round(_TEST_SHARE * len(labels)), numpy_generator_for(0, "digits", "test"))
    chosen = np.isin(np.arange(len(labels)), drawn, invert=split != "test")
    pixels = np.rint(images[chosen] * (255 / _MAX_VALUE)).astype(np.uint8)
    return ImageSet(torch.from_numpy(pixels)[:, None], torch.from_numpy(labels[chosen]), _INFO.class_names)


def write_examples(folder: Path, number: int, total: int) -> int:
    """Write one hospital's share of the training digits as PNG files; a class that has a folder is skipped.

    Each class folder appears whole or not at all.

    Args:
        folder: gets a folder for each of the ten digits; created if it is missing.
        number: of the hospital, 1 to `total`; the shares are disjoint, and together they are all images.
        total: number of hospitals.

    Returns:
        How many images were written.

    Raises:
        OptionError: there is no such share.
        RunFolderError: the folder cannot be written.
    """
    if not 1 <= number <= total:
        raise OptionError(f"--share must be 1 to {total}, as many as --of says, got {number}.")
    images = read_digits("train")
    pixels, labels = images.images[number - 1 :: total, 0].numpy(), images.labels[number - 1 :: total].tolist()
    count = 0
    for label, name in enumerate(images.class_names):
        if (folder / name).exists():
            continue
        positions = [position for position, own in enumerate(labels) if own == label]

        def write(partial: Path, positions: Sequence[int] = positions) -> None:
            for position in positions:
                Image.fromarray(pixels[position]).save(partial / f"{position:04d}.png")

        replace_folder(folder / name, write, is_synced=False)
        count += len(positions)
    return count


SOURCE = read_by_part(info, load, ("train", "test"))
