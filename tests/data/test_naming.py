"""Files of images by their keyed hash: found again, whatever else lies in the folder."""

from pathlib import Path

from PIL import Image

from fl_app.data.folder import read_parts
from fl_app.data.images import DatasetInfo
from fl_app.data.listing import PARTS
from fl_app.data.naming import files_of
from tests.data.conftest import write_images

KEY = b"k" * 32
INFO = DatasetInfo(("a", "b"), 1, 8)


def positions(folder: Path) -> list[float]:
    found = read_parts(folder, INFO, PARTS, 0.5, 0.0, KEY).parts["train"].positions
    assert found is not None
    return [float(one) for one in found[:, 1]]


def test_every_image_has_its_own_file(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", {"a": 6, "b": 5})
    wanted = positions(folder)
    found = files_of(folder, wanted, 1, KEY)
    assert found.keys() == set(wanted) and all((folder / name).is_file() for name in found.values())
    for name in found.values():
        (folder / name).rename(folder / f"{name}.moved.png")
    assert set(files_of(folder, wanted, 1, KEY).values()).isdisjoint(found.values())


def test_another_key_a_broken_file_or_a_removed_one_finds_nothing_and_no_error(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", {"a": 4, "b": 4})
    wanted = positions(folder)
    assert files_of(folder, wanted, 1, b"other" * 5) == {}
    known = files_of(folder, wanted, 1, KEY)
    broken, removed = list(known.values())[:2]
    (folder / broken).write_bytes(b"broken")
    (folder / removed).unlink()
    assert set(files_of(folder, wanted, 1, KEY).values()) == set(known.values()) - {broken, removed}


def test_nothing_is_read_if_nothing_is_wanted(tmp_path: Path) -> None:
    assert files_of(tmp_path / "missing", [], 1, KEY) == {}
    (tmp_path / "x").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "x" / "one.png")
    assert files_of(tmp_path, [], 1, KEY) == {}
