"""What systems leave in folders, links, accents, and split folders with something beside them."""

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from fl_app.data.entries import list_entries
from fl_app.data.folder import OwnImages, read_parts
from fl_app.data.images import DatasetInfo
from fl_app.errors import DataError
from tests.data.conftest import write_images
from tests.data.dicoms import write_dicom

INFO = DatasetInfo(("a", "b"), 1, 6)
NAME = "bösartig"


def read(folder: Path, info: DatasetInfo = INFO, share: float = 0.0) -> OwnImages:
    return read_parts(folder, info, ["train"], share)


def refusal(folder: Path, info: DatasetInfo = INFO, share: float = 0.0) -> DataError:
    with pytest.raises(DataError) as caught:
        read(folder, info, share)
    assert str(folder) not in caught.value.public and "secret" not in caught.value.public
    return caught.value


@pytest.mark.parametrize(
    "name",
    [
        "lost+found",
        "$RECYCLE.BIN",
        "System Volume Information",
        "__MACOSX",
        ".Trashes",
        "@eaDir",
        "#recycle",
        "Lost+Found",
        "FOUND.000",
        "found.012",
        "RECYCLED",
    ],
)
def test_folders_of_the_system_are_no_classes(tmp_path: Path, name: str) -> None:
    write_images(tmp_path, {"a": 2, "b": 1, name: 1})
    write_images(tmp_path / "a" / name, {"c": 1})
    assert len(read(tmp_path).parts["train"]) == 3
    assert list_entries(tmp_path).class_names == ("a", "b")


@pytest.mark.parametrize(
    "name", ["Thumbs.db", "ehthumbs.db", "Icon\r", "._x.png", "~$list.xlsx", "desktop.ini", "DICOMDIR"]
)
def test_files_of_the_system_are_passed_over(tmp_path: Path, name: str) -> None:
    write_images(tmp_path, {"a": 2})
    for folder in (tmp_path, tmp_path / "a"):
        (folder / name).write_bytes(b"x")
    assert len(read(tmp_path).parts["train"]) == 2


def test_loose_class_folders_beside_a_folder_train_are_refused_by_name(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"a": 1, "b": 1})
    write_images(tmp_path, {"a": 12, "b": 12, "notes": 0})
    error = refusal(tmp_path)
    assert "holds images beside the folder of training images, in: a, b" in str(error)


def test_images_in_folders_of_patients_beside_a_folder_train_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"a": 1, "b": 1})
    write_images(tmp_path / "more" / "2024", {"patient-1": 2})
    assert "of training images, in: more. Move" in str(refusal(tmp_path))


def test_a_loose_image_beside_a_folder_train_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"a": 1})
    Image.new("L", (2, 2)).save(tmp_path / "secret.png")
    assert "lies outside the class folders" in str(refusal(tmp_path))


def test_other_files_and_folders_beside_a_folder_train_do_no_harm(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"a": 1})
    write_images(tmp_path, {"a": 0, "notes": 0})
    (tmp_path / "notes" / "readme.txt").write_text("x")
    assert len(read(tmp_path).parts["train"]) == 1


@pytest.mark.parametrize(("train", "val"), [("Train", "Val"), ("TRAIN", "Validation")])
def test_the_names_of_parts_may_have_capitals(tmp_path: Path, train: str, val: str) -> None:
    write_images(tmp_path / train, {"a": 2})
    write_images(tmp_path / val, {"a": 1})
    found = read_parts(tmp_path, INFO, ["train", "validation"]).parts
    assert (len(found["train"]), len(found["validation"])) == (2, 1)


def test_a_folder_that_is_nearly_a_part_is_refused_with_the_part(tmp_path: Path) -> None:
    write_images(tmp_path / "trains", {"a": 2})
    assert "Did you mean 'train'?" in str(refusal(tmp_path))


@pytest.mark.parametrize(("on_disk", "stated"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_of_classes_are_compared_whatever_form_their_accents_have(
    tmp_path: Path, on_disk: "unicodedata._NormalizationForm", stated: "unicodedata._NormalizationForm"
) -> None:
    from tests.options import run_config

    write_images(tmp_path, {unicodedata.normalize(on_disk, NAME): 2})
    names = run_config({"data.class-names": unicodedata.normalize(stated, NAME)}).data.class_names
    assert read(tmp_path, DatasetInfo(names, 1, 6)).parts["train"].labels.tolist() == [0, 0]
    assert list_entries(tmp_path).class_names == (NAME,)


@pytest.mark.parametrize(("on_disk", "in_table"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_table_finds_its_files_whatever_form_their_accents_have(
    tmp_path: Path, on_disk: "unicodedata._NormalizationForm", in_table: "unicodedata._NormalizationForm"
) -> None:
    folder = write_images(tmp_path, {unicodedata.normalize(on_disk, "Jürgen"): 0})
    path = next(folder.iterdir()) / unicodedata.normalize(on_disk, "größe.png")
    Image.new("L", (2, 2)).save(path)
    line = unicodedata.normalize(in_table, f"Jürgen/größe.png,{NAME}")
    (tmp_path / "labels.csv").write_text(f"file,label\n{line}\n", encoding="utf-8")
    found = read(tmp_path, DatasetInfo((NAME,), 1, 6))
    assert (len(found.parts["train"]), found.num_unreadable) == (1, 0)


def test_a_class_folder_that_is_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "secret", {"a": 1})
    write_images(tmp_path / "data", {"b": 1})
    (tmp_path / "data" / "a").symlink_to(tmp_path / "secret" / "a")
    assert "is a link that leaves the data folder" in str(refusal(tmp_path / "data"))


@pytest.mark.parametrize("part", ["", "train"])
def test_an_image_that_is_a_link_out_of_the_folder_is_refused(tmp_path: Path, part: str) -> None:
    write_images(tmp_path / "secret", {"a": 1})
    write_images(tmp_path / "data" / part, {"a": 1})
    (tmp_path / "data" / part / "a" / "secret.png").symlink_to(tmp_path / "secret" / "a" / "patient-0.png")
    assert "is a link that leaves the data folder" in str(refusal(tmp_path / "data"))


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("name", ["labels.csv", "images.npz"])
def test_a_table_or_npz_that_is_a_link_out_of_the_folder_is_refused(tmp_path: Path, name: str, is_there: bool) -> None:
    write_images(tmp_path / "data", {"a": 2})
    (tmp_path / "secret").mkdir()
    if is_there:
        (tmp_path / "secret" / "labels.csv").write_text("file,label\na/patient-0.png,a\n")
        images = np.zeros((2, 6, 6), np.uint8)
        np.savez(tmp_path / "secret" / "images.npz", train_images=images, train_labels=[0, 0])
    (tmp_path / "data" / name).symlink_to(tmp_path / "secret" / name)
    assert "is a link that leaves the data folder" in str(refusal(tmp_path / "data"))


def test_links_inside_the_folder_are_followed_and_the_folder_itself_may_be_one(tmp_path: Path) -> None:
    write_images(tmp_path / "data", {".store": 2, "a": 0})
    for number in range(2):
        (tmp_path / "data" / "a" / f"{number}.png").symlink_to(f"../.store/patient-{number}.png")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert len(read(tmp_path / "link").parts["train"]) == 2


def test_an_image_that_is_there_twice_by_a_link_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "b" / "secret.png").symlink_to("../a/patient-0.png")
    assert "is the same file as" in str(refusal(tmp_path))


def test_a_table_that_names_an_image_twice_once_by_a_link_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, {"x": 1})
    (tmp_path / "x" / "link.png").symlink_to("patient-0.png")
    (tmp_path / "y").symlink_to("x")
    for other in ("x/link.png", "y/patient-0.png", "./x/patient-0.png"):
        (tmp_path / "labels.csv").write_text(f"file,label\nx/patient-0.png,a\n{other},b\n")
        assert "line 3 names the same file as line 2" in str(refusal(tmp_path))


def test_pipes_and_links_to_nowhere_are_unreadable_files_in_both_layouts(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 8})
    os.mkfifo(tmp_path / "a" / "pipe.png")
    (tmp_path / "a" / "gone.png").symlink_to("nowhere.png")
    found = read(tmp_path, share=0.2)
    assert (len(found.parts["train"]), found.num_unreadable) == (8, 2)
    names = [f"a/patient-{number}.png" for number in range(8)] + ["a/pipe.png", "a/gone.png"]
    (tmp_path / "labels.csv").write_text("file,label\n" + "".join(f"{name},a\n" for name in names))
    found = read(tmp_path, share=0.2)
    assert (len(found.parts["train"]), found.num_unreadable) == (8, 2)


def test_a_pipe_without_a_known_suffix_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 8})
    os.mkfifo(tmp_path / "a" / "secret")
    assert "secret is no PNG" in str(refusal(tmp_path))


def test_reports_in_class_folders_are_passed_over_and_in_a_table_they_are_unreadable(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 2})
    report = get_testdata_file("reportsi.dcm", download=False)
    assert isinstance(report, str)
    shutil.copy(report, tmp_path / "a" / "report.dcm")
    assert read(tmp_path).num_unreadable == 0
    (tmp_path / "labels.csv").write_text("file,label\na/patient-0.png,a\na/report.dcm,a\n")
    assert "1 of 2 image files is missing or broken" in str(refusal(tmp_path))
    assert "holds no image: it is of kind 'Basic Text SR Storage'" in str(refusal(tmp_path))


def test_windows_that_mean_nothing_are_counted_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_dicom(tmp_path / "a" / "x.dcm", np.arange(4, dtype=np.uint8).reshape(2, 2), WindowCenter=1, WindowWidth=0)
    read(tmp_path)
    assert "1 DICOM files name a window that means nothing" in caplog.text


def test_a_table_of_missing_files_is_refused_without_opening_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, {"x": 1})
    lines = "".join(f"x/{number}.png,a\n" for number in range(20_000))
    (tmp_path / "labels.csv").write_text(f"file,label\nx/patient-0.png,a\n{lines}")
    monkeypatch.setattr("fl_app.data.folder.read_files", None)
    assert "20000 of 20001 image files are missing or broken" in str(refusal(tmp_path, share=0.05))


def test_a_folder_of_broken_files_is_given_up_early(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 1})
    for number in range(150):
        (tmp_path / "a" / f"{number}.png").write_bytes(b"x")
    assert "at least 100 of 151 image files are missing or broken" in str(refusal(tmp_path))
