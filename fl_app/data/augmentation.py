"""Random changes to training images that leave the class as it is."""

import torch
from torch import Tensor

_SHIFT_SHARE = 8  # an image moves by at most one eighth of its side


def augment(images: Tensor, names: tuple[str, ...], generator: torch.Generator) -> Tensor:
    """Change each image on its own, in the order of the names.

    Args:
        images: [B, C, H, W] float32; not changed in place.
        names: out of `AUGMENTATIONS`; none returns the images.
        generator: on the images' device.
    """
    for name in names:
        images = _BY_NAME[name](images, generator)
    return images


def _flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror left and right, every second image on average."""
    flipped = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(flipped[:, None, None, None], images.flip(-1), images)


def _shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move by whole pixels along both axes; the edge's pixels fill what comes free."""
    num_images, _, height, width = images.shape
    rows = _sources(num_images, height, generator, images.device)
    columns = _sources(num_images, width, generator, images.device)
    which = torch.arange(num_images, device=images.device)
    moved = images[which[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2).contiguous()


def _sources(num_images: int, side: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Draw a shift per image, and return where each position of the moved image comes from: [B, side] int64."""
    furthest = side // _SHIFT_SHARE
    steps = torch.randint(-furthest, furthest + 1, (num_images, 1), generator=generator, device=device)
    return (torch.arange(side, device=device) - steps).clamp(0, side - 1)


_BY_NAME = {"flip": _flip, "shift": _shift}
AUGMENTATIONS = tuple(_BY_NAME)
