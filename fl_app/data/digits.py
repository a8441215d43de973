"""The source `digits`: 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn."""

import numpy as np
import torch

from fl_app.data.images import DatasetInfo, ImageSet
from fl_app.data.parts import read_by_part
from fl_app.data.stratified import stratified_choice
from fl_app.options.run import DataOptions
from fl_app.seeding import numpy_generator_for

_TEST_SHARE = 0.2
_MAX_VALUE = 16  # the values are counts of set pixels in blocks of 4 x 4


_INFO = DatasetInfo(tuple(str(digit) for digit in range(10)), num_channels=1, image_size=8)


def info(options: DataOptions) -> DatasetInfo:
    """Return classes, channels and the size before resizing."""
    return _INFO


def load(options: DataOptions, split: str) -> ImageSet:
    """Read one part; the parts, 80 to 20 in each class, are the same for every seed of a run."""
    return read_digits(split)


def read_digits(split: str) -> ImageSet:
    """Read one part, `train` or `test`, without any options."""
    from sklearn.datasets import load_digits  # slow to import, and needed for this source only

    published = load_digits()
    images, labels = published.images, published.target.astype(np.int64)
    is_test = np.zeros(len(labels), dtype=bool)
    is_test[stratified_choice(labels, round(_TEST_SHARE * len(labels)), numpy_generator_for(0, "digits", "test"))] = (
        True
    )
    chosen = is_test if split == "test" else ~is_test
    pixels = np.rint(images[chosen] * (255 / _MAX_VALUE)).astype(np.uint8)
    return ImageSet(torch.from_numpy(pixels)[:, None], torch.from_numpy(labels[chosen]), _INFO.class_names)


SOURCE = read_by_part(info, load, ("train", "test"))
