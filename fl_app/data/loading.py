"""From bytes in memory to batches on the training device."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fl_app.data.images import Batch, ImageSet

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
    return ImageSet(images.images.to(device), images.labels.to(device), images.class_names, images.patients)


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
    for indices in torch.split(order, batch_size):
        yield take(images, indices, device)


def take(images: ImageSet, indices: Tensor, device: torch.device) -> Batch:
    """Return the images at the given positions as a batch on the device; `indices`: [B] int64, on the CPU."""
    there = indices.to(images.images.device)
    chosen, labels = images.images[there], images.labels[there]
    return Batch(to_float(chosen.to(device, non_blocking=True)), labels.to(device, non_blocking=True))


def batches_of_round(
    num_images: int, batch_size: int, epochs: float, round_number: int, order: Callable[[int], torch.Generator]
) -> list[Tensor]:
    """Return which images a node trains on in a round, batch by batch.

    The rounds go through one endless row of epochs, each in an order of its own, `epochs` of them a round. So every
    image is seen once an epoch also where an epoch takes several rounds. No batch reaches from one epoch into the next.

    Args:
        num_images: n of the node; a round of a small node may hold no batch where `epochs` is less than 1.
        batch_size: images a batch; the last one of an epoch or a round may be smaller.
        epochs: passes over the images in a round, such as 2 or 0.1.
        round_number: from 1.
        order: CPU generator of an epoch, from 0, that draws its order.

    Returns:
        Positions of images, [B] int64 each.
    """
    begin, end = (round(number * epochs * num_images) for number in (round_number - 1, round_number))
    batches: list[Tensor] = []
    for epoch in range(begin // max(num_images, 1), math.ceil(end / max(num_images, 1))):
        shuffled = torch.randperm(num_images, generator=order(epoch))
        first = epoch * num_images
        part = shuffled[max(begin - first, 0) : end - first]
        batches.extend(torch.split(part, batch_size) if len(part) else [])
    return batches
