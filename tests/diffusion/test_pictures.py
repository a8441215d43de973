from base64 import b64decode
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image

from fl_app.diffusion.pictures import gallery_svg, save_gallery, save_grid, to_picture


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_picture_has_the_bytes_of_its_image(channels: int, mode: str) -> None:
    image = torch.linspace(-1, 1, channels * 6).reshape(channels, 2, 3)
    picture = to_picture(image)
    assert (picture.mode, picture.size) == (mode, (3, 2))
    first = picture.getpixel((0, 0))
    assert (first if channels == 1 else first[0]) == 0  # type: ignore[index]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("num_classes", [2, 10])
def test_a_gallery_and_a_grid_are_written_for_grey_and_colour(channels: int, num_classes: int, tmp_path: Path) -> None:
    block = torch.rand(num_classes, 3, channels, 8, 8) * 2 - 1
    names = [f"class {label}" for label in range(num_classes)]
    save_gallery({"raw": block, "ema (used)": block}, names, tmp_path / "gallery.png")
    save_grid(block.flatten(0, 1), [name for name in names for _ in range(3)], 2, tmp_path / "grid.png")
    for name in ("gallery", "grid"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 200 and image.info["dpi"] == pytest.approx((200, 200), rel=0.01)
        assert (tmp_path / f"{name}.svg").read_text(encoding="utf-8").count("<image") >= 1


def test_the_svg_of_a_gallery_has_the_pixels_of_each_class() -> None:
    block = torch.linspace(-1, 1, 2 * 3 * 64).reshape(2, 3, 1, 8, 8)
    root = ElementTree.fromstring(gallery_svg({"raw (used)": block}, ["<cat> & dog", "bird"]))
    images = list(root.iter("{http://www.w3.org/2000/svg}image"))
    assert [(one.attrib["data-weights"], one.attrib["data-class"]) for one in images] == [
        ("raw (used)", "0"),
        ("raw (used)", "1"),
    ]
    with Image.open(BytesIO(b64decode(images[1].attrib["href"].partition(",")[2]))) as strip:
        assert strip.size == (3 * 8 + 2, 8)  # a gap of one clear pixel
        assert strip.convert("L").crop((9, 0, 17, 8)).tobytes() == to_picture(block[1, 1]).tobytes()
        assert strip.getpixel((8, 0)) == (0, 0)
    texts = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["weights of the round, used", "<cat> & dog", "bird"]


def test_large_images_are_smaller_in_the_svg() -> None:
    root = ElementTree.fromstring(gallery_svg({"raw": torch.zeros(1, 2, 3, 256, 256)}, ["cat"]))
    (image,) = root.iter("{http://www.w3.org/2000/svg}image")
    assert (image.attrib["data-height"], image.attrib["data-width"]) == ("64", str(2 * 64 + 4))


def test_each_class_of_a_grid_begins_a_row(tmp_path: Path) -> None:
    images, names = torch.zeros(5, 1, 8, 8), ["a", "a", "a", "b", "b"]
    save_grid(images, names, 2, tmp_path / "grid.png")  # rows: a a / a / b b
    save_grid(images[:4], names[:4], 2, tmp_path / "same.png")
    save_grid(images[:3], names[:3], 2, tmp_path / "less.png")
    heights = []
    for name in ("grid", "same", "less"):
        with Image.open(tmp_path / f"{name}.png") as image:
            heights.append(image.size[1])
    assert heights[0] == heights[1] > heights[2]
