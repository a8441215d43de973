"""From images in memory to batches on the training device: size, values, order, augmentation."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from fl_app.data.images import Batch, ImageSet

AUGMENTATIONS = ("flip", "shift")

_SHIFT_SHARE = 8  # an image moves by at most one eighth of its side
_DEVICE_SHARE = 0.25  # a set that takes more of the free GPU memory stays in host memory


def resize(images: Tensor, size: int) -> Tensor:
    """Scale images to squares, bilinear with antialiasing; other shapes are stretched, nothing is cut off.

    Args:
        images: [N, C, H, W] uint8.
        size: new height and width in pixels.

    Returns:
        [N, C, size, size] uint8.
    """
    if images.shape[-2:] == (size, size):
        return images
    if len(images) == 0:
        return images.new_empty((0, images.shape[1], size, size))
    # The same numbers as torchvision's resize, whose import takes longer than most sets take to load.
    return functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


def to_float(images: Tensor) -> Tensor:
    """Map bytes to [-1, 1]; `images`: [..., H, W] uint8, returns float32 of the same shape."""
    return images.to(torch.float32) / 127.5 - 1.0


def to_bytes(images: Tensor) -> Tensor:
    """Map [-1, 1] to bytes, the inverse of `to_float`; values outside are clipped."""
    return ((images.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def place(images: ImageSet, device: torch.device) -> ImageSet:
    """Move a set to the device as bytes if it fits; a large one stays in host memory."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if images.images.numel() > _DEVICE_SHARE * free:
            return images
    return ImageSet(images.images.to(device), images.labels.to(device), images.class_names, images.patients)


def iterate(
    images: ImageSet, batch_size: int, device: torch.device, generator: torch.Generator | None = None
) -> Iterator[Batch]:
    """Yield one epoch of batches on the device; the last one may be smaller.

    Args:
        images: the set, on the device or in host memory.
        batch_size: images a batch.
        device: of the batches.
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
    num_images: int,
    batch_size: int,
    epochs: float,
    round_number: int,
    order: Callable[[int], torch.Generator],
    fewest: int = 1,
) -> list[Tensor]:
    """Return the images that a node trains on in a round, batch by batch.

    The rounds walk through one endless row of epochs, each shuffled, `epochs` of them a round. So every image is seen
    once an epoch even if an epoch takes several rounds. No batch spans two epochs.

    Args:
        num_images: n of the node; if `epochs` is less than 1, a round of a small node may hold no batch.
        batch_size: images a batch; the last one of an epoch or a round may be smaller.
        epochs: passes over the images in a round, such as 2 or 0.1.
        round_number: from 1.
        order: returns the CPU generator that draws the order of an epoch, counted from 0.
        fewest: a hospital's `min-images`. Rounds then begin and end at multiples of it within an epoch, so that no
            round trains on fewer images, and no two on sets that differ by fewer; a round may be empty, and the one
            before it longer. A last batch that is smaller than this, and than the others, joins the one before.

    Returns:
        Positions of images, [B] int64 each.
    """
    begin, end = (
        _at_multiple(round(number * epochs * num_images), num_images, fewest)
        for number in (round_number - 1, round_number)
    )
    batches: list[Tensor] = []
    for epoch in range(begin // max(num_images, 1), math.ceil(end / max(num_images, 1))):
        shuffled = torch.randperm(num_images, generator=order(epoch))
        first = epoch * num_images
        part = shuffled[max(begin - first, 0) : end - first]
        found = list(torch.split(part, batch_size)) if len(part) else []
        if len(found) > 1 and len(found[-1]) < min(batch_size, fewest):
            found[-2:] = [torch.cat(found[-2:])]
        batches.extend(found)
    return batches


def _at_multiple(position: int, num_images: int, fewest: int) -> int:
    """Return the next position in a row of epochs that is a multiple of `fewest` images from the epoch's begin.

    The epoch's end stands for the last of them, so that at least `fewest` images lie between two, if there are as many.
    """
    epoch, place = divmod(position, max(num_images, 1))
    place = math.ceil(place / fewest) * fewest
    return epoch * num_images + (num_images if num_images - place < fewest and place else place)


def augment(images: Tensor, names: tuple[str, ...], generator: torch.Generator) -> Tensor:
    """Change each image at random without changing its class.

    Args:
        images: [B, C, H, W] float32; not changed in place.
        names: out of `AUGMENTATIONS`, applied in this order: `flip` mirrors every second image on average, `shift`
            moves each one.
        generator: on the images' device.
    """
    for name in names:
        if name == "flip":
            is_flipped = torch.rand(len(images), generator=generator, device=images.device) < 0.5
            images = torch.where(is_flipped[:, None, None, None], images.flip(-1), images)
        else:
            images = _shift(images, generator)
    return images


def _shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move each image by whole pixels along both axes; the pixels of its edge fill the gap."""
    num_images, _, height, width = images.shape
    sources = []  # of rows, then of columns: where each position of the moved image comes from, [B, side] int64
    for side in (height, width):
        furthest = side // _SHIFT_SHARE
        steps = torch.randint(-furthest, furthest + 1, (num_images, 1), generator=generator, device=images.device)
        sources.append((torch.arange(side, device=images.device) - steps).clamp(0, side - 1))
    which = torch.arange(num_images, device=images.device)
    moved = images[which[:, None, None], :, sources[0][:, :, None], sources[1][:, None, :]]
    return moved.permute(0, 3, 1, 2).contiguous()
