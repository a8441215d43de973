"""The digits of scikit-learn."""

import torch
from sklearn.datasets import load_digits

from fl_app.data import digits
from fl_app.data.images import ImageSet
from tests.options import run_config

_OPTIONS = run_config({"data.source": "digits"}).data


def _rows(images: ImageSet) -> list[bytes]:
    return sorted(bytes(image.flatten().tolist()) for image in images.images)


def test_both_parts_together_are_all_1797_images() -> None:
    train, test = digits.load(_OPTIONS, "train"), digits.load(_OPTIONS, "test")
    assert (len(train), len(test)) == (1438, 359)
    published = torch.from_numpy(load_digits().images * 255 / 16).round().to(torch.uint8)[:, None]
    everything = ImageSet(published, torch.zeros(1797, dtype=torch.int64), ("any",))
    assert sorted(_rows(train) + _rows(test)) == _rows(everything)


def test_each_class_is_split_80_to_20() -> None:
    train, test = digits.load(_OPTIONS, "train").class_counts(), digits.load(_OPTIONS, "test").class_counts()
    assert ((test - 0.2 * (train + test)).abs() < 1).all()


def test_pixels_use_the_whole_range_of_a_byte() -> None:
    images = digits.load(_OPTIONS, "test").images
    assert images.shape[1:] == (1, 8, 8)
    assert (int(images.min()), int(images.max())) == (0, 255)


def test_the_parts_stay_the_same_from_release_to_release() -> None:
    assert digits.load(_OPTIONS, "test").labels[:12].tolist() == [1, 6, 3, 5, 7, 1, 3, 6, 8, 1, 7, 2]
