"""A hospital's own folder: what it may hold, and what is refused."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fl_app.data import folder, listing
from fl_app.data.images import DatasetInfo, ImageSet
from fl_app.data.listing import Part
from fl_app.errors import DataError, OptionError
from fl_app.options.images import DataOptions
from fl_app.options.sections import OptionValue
from tests.data.conftest import write_images
from tests.options import run_config


def _options(directory: Path | str = "", **changes: OptionValue) -> DataOptions:
    options: dict[str, OptionValue] = {
        "source": "folder",
        "directory": str(directory),
        "class-names": "benign,malignant,normal",
        "num-channels": 1,
        "image-size": 8,
        "test-share": 0.0,
    }
    options |= {name.replace("_", "-"): value for name, value in changes.items()}
    return run_config({f"data.{name}": value for name, value in options.items()}).data


def _read(options: DataOptions, part: Part) -> ImageSet:
    return folder.load(options)[part]


def _refusal(directory: Path, **changes: OptionValue) -> DataError:
    """Return the error that reading raises, having checked that nothing of the file's name leaves."""
    with pytest.raises(DataError) as caught:
        _read(_options(directory, **changes), "train")
    for part in (str(directory), "patient", "png", "secret"):
        assert part not in caught.value.public
    return caught.value


def test_labels_follow_the_agreed_names_and_a_missing_class_is_fine(tmp_path: Path) -> None:
    images = _read(_options(write_images(tmp_path, {"normal": 2, "benign": 1})), "train")
    assert images.labels.tolist() == [0, 2, 2]
    assert images.class_names == ("benign", "malignant", "normal")
    assert images.class_counts().tolist() == [1, 0, 2]


def test_pixels_are_read_as_they_are(tmp_path: Path) -> None:
    write_images(tmp_path, {"benign": 1}, size=(8, 8))
    with Image.open(tmp_path / "benign" / "patient-0.png") as image:
        expected = torch.from_numpy(np.array(image))
    assert torch.equal(_read(_options(tmp_path), "train").images[0, 0], expected)


@pytest.mark.parametrize("size", [(6, 6), (20, 5), (1, 1)])
def test_every_shape_becomes_a_square(tmp_path: Path, size: tuple[int, int]) -> None:
    images = _read(_options(write_images(tmp_path, {"benign": 2}, size=size)), "train")
    assert images.images.shape == (2, 1, 8, 8)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("num_channels", [1, 3])
def test_the_option_says_how_many_channels(tmp_path: Path, mode: str, num_channels: int) -> None:
    write_images(tmp_path, {"benign": 1}, mode=mode)
    assert _read(_options(tmp_path, num_channels=num_channels), "train").images.shape == (1, num_channels, 8, 8)


def test_jpeg_files_are_read_by_either_suffix_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "benign").mkdir()
    for name in ("a.jpg", "b.JPEG"):
        Image.new("L", (8, 8), 128).save(tmp_path / "benign" / name, format="JPEG")
    assert len(_read(_options(tmp_path), "train")) == 2


def test_a_photo_taken_sideways_is_turned_upright(tmp_path: Path) -> None:
    (tmp_path / "benign").mkdir()
    photo = Image.fromarray(np.repeat([[0, 255]], [4, 4], axis=1).repeat(8, axis=0).astype(np.uint8))  # bright right
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    photo.save(tmp_path / "benign" / "a.png", exif=exif)
    image = _read(_options(tmp_path), "train").images[0, 0]
    assert (int(image[0, 4]), int(image[-1, 4])) == (0, 255)  # bright below


def test_parts_may_lie_in_folders_of_their_own(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"benign": 2})
    write_images(tmp_path / "test", {"normal": 1})
    assert _read(_options(tmp_path), "train").labels.tolist() == [0, 0]
    assert _read(_options(tmp_path), "test").labels.tolist() == [2]


def test_what_file_managers_leave_is_passed_over(tmp_path: Path) -> None:
    write_images(tmp_path, {"benign": 1, ".thumbnails": 1})
    (tmp_path / "benign" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "benign" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "README.txt").write_text("where the images come from")
    assert len(_read(_options(tmp_path), "train")) == 1


def test_a_foreign_folder_is_refused_with_the_closest_class(tmp_path: Path) -> None:
    write_images(tmp_path, {"benign": 1, "secret-malignent": 1})
    error = _refusal(tmp_path)
    assert "secret-malignent is not a class of this run" in str(error)
    assert "Did you mean 'malignant'?" in str(error)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_broken_image_is_named(tmp_path: Path, content: bytes) -> None:
    write_images(tmp_path, {"benign": 1})
    (tmp_path / "benign" / "secret.png").write_bytes(content)
    assert "secret.png cannot be read as an image" in str(_refusal(tmp_path))


def test_a_file_of_another_kind_in_a_class_folder_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, {"benign": 1})
    (tmp_path / "benign" / "secret.txt").write_bytes(b"x")
    assert "secret.txt is no PNG, JPEG, TIFF or DICOM file" in str(_refusal(tmp_path))


def test_a_folder_in_a_class_folder_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, {"benign": 1, "benign/secret": 1})
    assert "secret is a folder. Expected only images in the class folder" in str(_refusal(tmp_path))


def test_an_image_outside_the_class_folders_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, {"benign": 1})
    (tmp_path / "benign" / "patient-0.png").rename(tmp_path / "secret.png")
    assert "secret.png lies outside the class folders" in str(_refusal(tmp_path))


@pytest.mark.parametrize("counts", [{}, {"benign": 0}])
def test_an_empty_folder_is_refused_with_what_is_expected(tmp_path: Path, counts: dict[str, int]) -> None:
    error = _refusal(write_images(tmp_path, counts))
    assert "holds no image. Expected PNG, JPEG, TIFF or DICOM files in subfolders named benign, malignant" in str(error)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert "nowhere does not exist" in str(_refusal(tmp_path / "nowhere"))


def test_a_folder_that_may_not_be_listed_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", fail)
    assert "cannot be listed" in str(_refusal(tmp_path))


def test_images_are_found_in_all_subfolders_in_order_and_other_files_are_counted(tmp_path: Path) -> None:
    write_images(tmp_path, {"b": 1, "a/deep": 2, ".thumbnails": 1})
    for name in ("notes.txt", "a/notes.dc", "a/Thumbs.db", "a/.hidden.png"):
        (tmp_path / name).write_bytes(b"x")
    found, num_others = listing.find_images(tmp_path)
    expected = ["a/deep/patient-0.png", "a/deep/patient-1.png", "b/patient-0.png"]
    assert [str(path.relative_to(tmp_path)) for path in found] == expected
    assert num_others == 2


def test_a_link_to_the_folder_itself_does_not_make_the_search_endless(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 1})
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert len(listing.find_images(tmp_path)[0]) == 1


def test_a_folder_that_cannot_be_searched_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(DataError, match="cannot be listed"):
        listing.find_images(tmp_path)


def test_without_a_test_part_there_is_nothing_to_test_on(tmp_path: Path) -> None:
    write_images(tmp_path, {"benign": 1})
    with pytest.raises(DataError, match="holds no part 'test'"):
        folder.read_folder(tmp_path, DatasetInfo(("benign",), 1, 8), "test")


def test_without_a_directory_the_option_is_asked_for() -> None:
    with pytest.raises(OptionError, match=r"set option 'data.directory'"):
        _read(_options(), "train")


def test_the_size_must_be_stated() -> None:
    with pytest.raises(OptionError, match=r"needs a value for option 'data.image-size'\."):
        folder.info(_options("", image_size=0))


@pytest.mark.parametrize(("mode", "num_channels"), [("L", 1), ("RGB", 3)])
def test_what_the_options_leave_open_is_looked_up_in_the_folder(tmp_path: Path, mode: str, num_channels: int) -> None:
    write_images(tmp_path, {"b": 1, "a": 0}, mode=mode)
    found = folder.info(_options(tmp_path, class_names="", num_channels=0))
    assert found == DatasetInfo(("a", "b"), num_channels, 8)
    assert folder.info(_options(tmp_path, class_names="b,a,c", num_channels=0)).class_names == ("b", "a", "c")


def test_up_to_the_stated_share_broken_files_are_left_out_and_counted(tmp_path: Path) -> None:
    write_images(tmp_path, {"benign": 3})
    (tmp_path / "benign" / "secret.png").write_bytes(b"x")
    expected = DatasetInfo(("benign",), 1, 8)
    found = folder.read_parts(tmp_path, expected, ["train"], max_unreadable_share=0.25)
    assert (len(found.parts["train"]), found.num_unreadable) == (3, 1)
    with pytest.raises(
        DataError, match=r"1 of 4 image files is missing or broken; the largest allowed share is 0\.24"
    ) as caught:
        folder.read_parts(tmp_path, expected, ["train"], max_unreadable_share=0.24)
    assert caught.value.public == "1 of 4 image files is missing or broken, more than this node allows"


def test_a_folder_of_nothing_but_broken_files_is_refused_whatever_is_allowed(tmp_path: Path) -> None:
    write_images(tmp_path, {"benign": 0})
    (tmp_path / "benign" / "secret.png").write_bytes(b"x")
    with pytest.raises(DataError, match="holds no image"):
        folder.read_parts(tmp_path, DatasetInfo(("benign",), 1, 8), ["train"], max_unreadable_share=1.0)


@pytest.mark.parametrize("name", ["val", "validation"])
def test_a_validation_part_of_ones_own_may_lie_beside_the_training_part(tmp_path: Path, name: str) -> None:
    write_images(tmp_path / "train", {"benign": 2})
    write_images(tmp_path / name, {"benign": 1})
    parts = folder.read_parts(tmp_path, DatasetInfo(("benign",), 1, 8), ["train", "validation"]).parts
    assert (len(parts["train"]), len(parts["validation"])) == (2, 1)


def test_a_class_named_twice_is_refused() -> None:
    with pytest.raises(OptionError, match="must name each class once, got a, b, a"):
        folder.info(_options(class_names="a,b,a"))
