from pathlib import Path

import pytest
import torch
from PIL import Image

from fl_app.diffusion.pictures import save_gallery, save_grid, to_picture


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_picture_has_the_bytes_of_its_image(channels: int, mode: str) -> None:
    image = torch.linspace(-1, 1, channels * 6).reshape(channels, 2, 3)
    picture = to_picture(image)
    assert (picture.mode, picture.size) == (mode, (3, 2))
    first = picture.getpixel((0, 0))
    assert (first if channels == 1 else first[0]) == 0  # type: ignore[index]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_gallery_and_a_grid_are_written_for_grey_and_colour(channels: int, tmp_path: Path) -> None:
    block = torch.rand(2, 3, channels, 8, 8) * 2 - 1
    save_gallery({"raw": block, "ema (used)": block}, ["cat", "dog"], tmp_path / "gallery.png")
    save_grid(block.flatten(0, 1)[:5], 3, tmp_path / "grid.png")
    with Image.open(tmp_path / "gallery.png") as gallery, Image.open(tmp_path / "grid.png") as grid:
        assert gallery.size[0] > gallery.size[1] and grid.size == (3 * 52, 2 * 52)
        assert grid.getpixel((110, 60)) == (0, 0, 0) == grid.getpixel((150, 90))  # the sixth place is empty: black
        assert grid.getpixel((50, 5)) == (110, 110, 110)  # a gap
