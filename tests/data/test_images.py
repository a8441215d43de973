"""Image sets: what they refuse, select and count."""

import pytest
import torch

from fl_app.data.images import ImageSet
from fl_app.errors import DataError


def image_set(labels: list[int], num_classes: int = 3) -> ImageSet:
    """Make a set of 2 x 2 images that are as bright as their position says."""
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)
    return ImageSet(images, torch.tensor(labels, dtype=torch.int64), tuple("abcdef"[:num_classes]))


def test_an_absent_class_counts_zero() -> None:
    assert image_set([2, 0, 2]).class_counts().tolist() == [1, 0, 2]


def test_an_empty_set_has_no_images_and_zero_counts() -> None:
    empty = image_set([])
    assert len(empty) == 0
    assert empty.class_counts().tolist() == [0, 0, 0]


def test_selecting_keeps_the_given_order() -> None:
    chosen = image_set([0, 1, 2]).select(torch.tensor([2, 0]))
    assert chosen.labels.tolist() == [2, 0]
    assert chosen.images[:, 0, 0, 0].tolist() == [2, 0]


@pytest.mark.parametrize("labels", [[3], [-1]])
def test_a_label_outside_the_classes_is_refused(labels: list[int]) -> None:
    with pytest.raises(DataError, match=r"Labels must lie in \[0, 3\)"):
        image_set(labels)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 2, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int32)),
    ],
)
def test_wrong_shapes_and_types_are_refused(images: torch.Tensor, labels: torch.Tensor) -> None:
    with pytest.raises(DataError, match="must be"):
        ImageSet(images, labels, ("a",))
