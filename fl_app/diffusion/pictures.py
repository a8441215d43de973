"""Pictures of generated images."""

import io
import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fl_app.data.loading import to_bytes
from fl_app.files import write_text
from fl_app.pictures import fold, picture, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

USED = " (used)"  # the end of the title of the weights that are used

_CELL = 48  # smallest side of an image in a picture, in pixels
_INCHES = 0.55  # side of an image in a picture
_PAIR_INCHES = 0.9  # the same, if two images are compared: their headings stand side by side
_GAP = 4  # between two images, in pixels
_WHITE = 255
_STACKED = 4  # of so few classes, weights are shown below each other: a row of two classes is a strip
_LARGEST = 64  # side of an image in an SVG, in its own pixels; larger ones are made smaller
_SIDE, _LABEL, _TITLE = 44, 130, 26  # of an SVG, in CSS pixels: an image, the width of labels, the height of titles
_TEXTS = {
    "raw": "weights of the round",
    "ema": "moving average (EMA) over rounds",
    "node-ema": "moving averages of the sites",
}


def save_gallery(images: Mapping[str, Tensor], class_names: Sequence[str], path: Path) -> None:
    """Draw galleries: a row for each class, a block for each set of weights; PNG, and SVG beside it.

    Args:
        images: {name of the weights, with USED at its end or not: [K, M, C, H, W] float32 in [-1, 1]}.
        class_names: K names.
        path: of the PNG.
    """
    num_classes, columns = next(iter(images.values())).shape[:2]
    is_stacked = num_classes <= _STACKED
    shape = (len(images), 1) if is_stacked else (1, len(images))
    width, height = columns * _INCHES, num_classes * _INCHES
    with picture(path, shape[1] * (width + 1.1), shape[0] * (height + 0.5), with_svg=False) as figure:
        for axes, (title, block) in zip(figure.subplots(*shape, squeeze=False).flat, images.items(), strict=True):
            _show(axes, block, [shorten(name) for name in class_names], fold(title_of(title), width))
    write_text(path.with_suffix(".svg"), gallery_svg(images, class_names))


def title_of(weights: str) -> str:
    """Return what a set of weights is, for people."""
    name = weights.removesuffix(USED)
    return _TEXTS.get(name, name) + (", used" if weights.endswith(USED) else "")


def gallery_svg(images: Mapping[str, Tensor], class_names: Sequence[str]) -> str:
    """Return a gallery as SVG, with a PNG for each class that has the pixels of its images; see `save_gallery`.

    Each `image` has the attributes `data-weights`, `data-class`, `data-width` and `data-height`, in pixels of the PNG.
    """
    parts, top, widest = [], 0, 0
    for title, block in images.items():
        parts.append(f'<text x="{_LABEL}" y="{top + 17}" font-weight="bold">{escape(title_of(title))}</text>')
        top += _TITLE
        for label, row in enumerate(block):
            strip = _strip(row)
            width = round(_SIDE * strip.width / strip.height)
            widest = max(widest, width)
            name = escape(shorten(class_names[label]))
            parts.append(f'<text x="{_LABEL - 8}" y="{top + _SIDE // 2 + 4}" text-anchor="end">{name}</text>')
            parts.append(
                f'<image x="{_LABEL}" y="{top}" width="{width}" height="{_SIDE}" data-weights={quoteattr(title)} '
                f'data-class="{label}" data-width="{strip.width}" data-height="{strip.height}" '
                f'href="{_data_uri(strip)}"/>'
            )
            top += _SIDE + 4
        top += 8
    width = _LABEL + widest + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" height="{top}" '
        'font-family="sans-serif" font-size="12"><style>image { image-rendering: pixelated }</style>'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def save_grid(images: Tensor, names: Sequence[str], columns: int, path: Path) -> None:
    """Draw images as one picture in which each class begins a row of its own, with its name; PNG, and SVG beside it.

    Args:
        images: [M, C, H, W] float32 in [-1, 1].
        names: of their classes, M; images of a class stand together.
        columns: images in a row.
        path: of the PNG.
    """
    rows, labels, done = [], [], 0
    for name, group in groupby(names):
        many = len(list(group))
        for start in range(0, many, columns):
            row = images.new_full((columns, *images.shape[1:]), 1.0)
            own = images[done + start : done + min(start + columns, many)]
            row[: len(own)] = own
            rows.append(row)
            labels.append(shorten(name) if start == 0 else "")
        done += many
    with picture(path, columns * _INCHES + 1.1, len(rows) * _INCHES + 0.2) as figure:
        _show(figure.subplots(), torch.stack(rows), labels, "")


def save_pairs(images: Tensor, names: Sequence[str], headings: tuple[str, str], path: Path) -> None:
    """Draw two images in each row, with headings above them and a name beside them; PNG, and SVG beside it.

    Args:
        images: [2 M, C, H, W] float32 in [-1, 1], the pairs one after another.
        names: of the pairs, M.
        headings: of the columns.
        path: of the PNG.
    """
    block = images.unflatten(0, (-1, 2))
    with picture(path, 2 * _PAIR_INCHES + 1.8, len(names) * _PAIR_INCHES + 0.4) as figure:
        axes = figure.subplots()
        _show(axes, block, names, "")
        width = _scale(block) * block.shape[-1] + _GAP
        axes.set_xticks([0.5 * width, 1.5 * width], headings)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)


def to_picture(image: Tensor) -> Image.Image:
    """Return one image, [C, H, W] float32 in [-1, 1], as a grey or RGB picture of the same size."""
    array = to_bytes(image).permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def _show(axes: "Axes", block: Tensor, labels: Sequence[str], title: str) -> None:
    """Draw [rows, columns, C, H, W] with a label for each row."""
    axes.imshow(_mosaic(block), interpolation="nearest")
    axes.set_title(title)
    axes.set_xticks([])
    height = _scale(block) * block.shape[-2] + _GAP
    axes.set_yticks([(row + 0.5) * height for row in range(len(labels))], labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _strip(row: Tensor) -> Image.Image:
    """Return [M, C, H, W] as one picture with clear gaps, each image of its own pixels if it is not large."""
    pictures = [to_picture(image).convert("RGBA") for image in row]
    scale = min(1.0, _LARGEST / max(pictures[0].size))
    width, height = (max(1, round(side * scale)) for side in pictures[0].size)
    gap = max(1, width // 14)
    strip = Image.new("RGBA", (len(pictures) * (width + gap) - gap, height))
    for place, one in enumerate(pictures):
        strip.paste(
            one if scale == 1.0 else one.resize((width, height), Image.Resampling.LANCZOS), (place * (width + gap), 0)
        )
    return strip.convert("LA") if row.shape[1] == 1 else strip


def _data_uri(strip: Image.Image) -> str:
    content = io.BytesIO()
    strip.save(content, format="png", optimize=True)
    return f"data:image/png;base64,{b64encode(content.getvalue()).decode()}"


def _scale(block: Tensor) -> int:
    return max(1, math.ceil(_CELL / int(block.shape[-1])))


def _mosaic(block: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Arrange [rows, columns, C, H, W] with gaps as RGB bytes [height, width, 3]; small images are enlarged."""
    scale = _scale(block)
    rows, columns, channels = block.shape[:3]
    cells = to_bytes(block).cpu().numpy().repeat(scale, axis=3).repeat(scale, axis=4)
    cells = np.pad(cells, ((0, 0), (0, 0), (0, 0), (0, _GAP), (0, _GAP)), constant_values=_WHITE)
    height, width = cells.shape[3:]
    array = cells.transpose(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)
    return array.repeat(3, axis=2) if channels == 1 else array
