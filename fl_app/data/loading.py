"""From bytes in memory to batches on the training device."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fl_app.data.images import ImageSet
from fl_app.shapes import Batch

_DEVICE_SHARE = 0.25  # of the free GPU memory that a set may take before it stays in host memory


def to_float(images: Tensor) -> Tensor:
    """Map bytes to [-1, 1]; `images`: [..., H, W] uint8, returns float32 of the same shape."""
    return images.to(torch.float32) / 127.5 - 1.0


def to_bytes(images: Tensor) -> Tensor:
    """Map [-1, 1] to bytes, the inverse of `to_float`; values outside are clipped."""
    return ((images.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def place(images: ImageSet, device: torch.device) -> ImageSet:
    """Move a set to the device as bytes where it fits; a large one stays in host memory."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if images.images.numel() > _DEVICE_SHARE * free:
            return images
    return ImageSet(images.images.to(device), images.labels.to(device), images.class_names)


def num_batches(num_images: int, batch_size: int) -> int:
    """Count the batches of one epoch; the last, smaller one counts too."""
    return math.ceil(num_images / batch_size)


def iterate(
    images: ImageSet, batch_size: int, device: torch.device, generator: torch.Generator | None = None
) -> Iterator[Batch]:
    """Yield one epoch of batches on the device, the last one smaller where the sizes do not divide.

    Args:
        images: the set, on the device or in host memory.
        batch_size: images a batch.
        device: where the batches go.
        generator: a CPU generator that draws the order; None keeps the order of the set.
    """
    order = torch.arange(len(images)) if generator is None else torch.randperm(len(images), generator=generator)
    for indices in torch.split(order.to(images.images.device), batch_size):
        chosen, labels = images.images[indices], images.labels[indices]
        yield Batch(to_float(chosen.to(device, non_blocking=True)), labels.to(device, non_blocking=True))
