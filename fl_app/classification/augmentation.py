"""Random changes to training images; prototypes are never measured on changed ones."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

_LARGEST_SHIFT = 1 / 8  # of the side


def augment(images: Tensor, names: Sequence[str], generator: torch.Generator) -> Tensor:
    """Change each image in its own way.

    Args:
        images: [B, C, H, W] float32.
        names: `flip` mirrors half of them left to right; `shift` moves each by up to an eighth of the side, what
            comes in being the repeated edge.
        generator: on the images' device.

    Returns:
        Images of the same shape.
    """
    if "flip" in names:
        mirrored = torch.rand(len(images), generator=generator, device=images.device) < 0.5
        images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
    if "shift" in names:
        images = _shift(images, generator)
    return images


def _shift(images: Tensor, generator: torch.Generator) -> Tensor:
    size, height, width = len(images), images.shape[-2], images.shape[-1]
    most = max(1, int(min(height, width) * _LARGEST_SHIFT))
    padded = functional.pad(images, (most, most, most, most), mode="replicate")
    offsets = torch.randint(0, 2 * most + 1, (2, size), generator=generator, device=images.device)
    rows = offsets[0, :, None] + torch.arange(height, device=images.device)
    columns = offsets[1, :, None] + torch.arange(width, device=images.device)
    numbers = torch.arange(size, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[numbers, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
