"""Pictures of generated images."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from fl_app.data.loading import to_bytes

_CELL = 48  # smallest side of an image in a picture, in pixels
_GAP = 4  # between two images, in pixels
_GAP_GREY = 110


def save_gallery(images: Mapping[str, Tensor], class_names: Sequence[str], path: Path) -> None:
    """Draw galleries side by side: a row for each class, a block of columns for each title.

    Args:
        images: {title: [K, M, C, H, W] float32 in [-1, 1]}.
        class_names: K names.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure  # slow to import, and nodes do not need it

    first = next(iter(images.values()))
    num_classes = int(first.shape[0])
    width = sum(block.shape[1] for block in images.values()) * 0.5 + 1.2
    figure = Figure(figsize=(max(width, 3.0), num_classes * 0.5 + 0.5), dpi=100, layout="compressed")
    for axes, (title, block) in zip(figure.subplots(1, len(images), squeeze=False)[0], images.items(), strict=True):
        axes.imshow(_mosaic(block), interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.set_xticks([])
        height = _scale(first) * first.shape[-2] + _GAP
        axes.set_yticks([(row + 0.5) * height for row in range(num_classes)], class_names, fontsize=8)
        axes.tick_params(length=0)
    figure.savefig(path, format="png")


def save_grid(images: Tensor, columns: int, path: Path) -> None:
    """Write images as one plain picture; `images`: [M, C, H, W] float32 in [-1, 1]."""
    rows = math.ceil(len(images) / columns)
    padded = images.new_full((rows * columns, *images.shape[1:]), -1.0)
    padded[: len(images)] = images
    Image.fromarray(_mosaic(padded.unflatten(0, (rows, columns)))).save(path, format="png")


def to_picture(image: Tensor) -> Image.Image:
    """Return one image, [C, H, W] float32 in [-1, 1], as a grey or RGB picture of the same size."""
    array = to_bytes(image).permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def _scale(block: Tensor) -> int:
    return max(1, math.ceil(_CELL / int(block.shape[-1])))


def _mosaic(block: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Arrange [rows, columns, C, H, W] with gaps as RGB bytes [height, width, 3]; small images are enlarged."""
    scale = _scale(block)
    rows, columns, channels = block.shape[:3]
    cells = to_bytes(block).cpu().numpy().repeat(scale, axis=3).repeat(scale, axis=4)
    cells = np.pad(cells, ((0, 0), (0, 0), (0, 0), (0, _GAP), (0, _GAP)), constant_values=_GAP_GREY)
    height, width = cells.shape[3:]
    array = cells.transpose(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)
    return array.repeat(3, axis=2) if channels == 1 else array
