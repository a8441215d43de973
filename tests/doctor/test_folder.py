"""What doctor says of a folder: counts, and never a name of a file."""

import dataclasses

import pytest

from fl_app.data.images import DatasetInfo
from fl_app.data.survey import Survey
from fl_app.doctor.finding import Finding
from fl_app.doctor.folder import folder_checks
from tests.doctor.surveys import sound

INFO = DatasetInfo(("benign", "malignant"), 1, 32)
SECRET = "patient-4711.png"


def look(found: Survey, info: DatasetInfo | None = INFO) -> dict[str, Finding]:
    findings = {name: check() for name, check in folder_checks(found, info, 0.2)}
    assert all(name == finding.name for name, finding in findings.items())
    return findings


def test_a_sound_folder_is_ready_in_every_respect() -> None:
    findings = look(sound())
    assert {finding.verdict for finding in findings.values()} == {"ready"}
    assert findings["folder"].text == "10 readable images, labelled by table; train 8, validation 2."
    assert findings["sizes"].text == "Pixels: 32 x 32 (10). The run resizes to 32 x 32."
    assert findings["patients"].text == "5 patients. None is in more than one part."


def test_a_folder_without_a_labelled_file_is_told_what_is_expected_and_nothing_else() -> None:
    findings = look(dataclasses.replace(sound(), num_files=0, class_counts={}, part_counts={}))
    assert list(findings) == ["folder"] and findings["folder"].verdict == "not ready"
    assert "holds no labelled image. Expected " in findings["folder"].text
    assert "one folder for each class, or a table labels.csv" in findings["folder"].text


@pytest.mark.parametrize(
    ("changes", "name", "verdict", "words"),
    [
        ({"class_counts": {}}, "folder", "not ready", "0 readable images"),
        ({"sizes": {(16, 16): 3, (64, 32): 7}}, "sizes", "warning", "3 images will be enlarged"),
        ({"sizes": {(64, 48): 1}}, "sizes", "ready", "1 image will be stretched"),
        ({"channels": {1: 4, 3: 6}}, "channels", "warning", "grey 4, RGB 6. The run takes grey images: 6 images"),
        ({"num_constant": 2}, "brightness", "warning", "2 images of one colour"),
        ({"num_faint": 2}, "brightness", "warning", "2 images are nearly black"),
        (
            {"num_faint": 2, "num_faint_deep": 1},
            "brightness",
            "warning",
            "1 16-bit image of these has almost no value of 4,096",
        ),
        ({"num_windows_ignored": 3}, "brightness", "warning", "3 DICOM files have a meaningless window"),
        ({"unreadable": ((SECRET, "broken"),)}, "unreadable", "warning", "1 file of 10 cannot be read or is missing"),
        ({"labels_without_file": (SECRET,) * 3}, "unreadable", "not ready", "3 files of 10"),
        ({"labels_without_file": (SECRET,)}, "labels", "warning", "1 x label without a file"),
        ({"files_without_label": (SECRET,) * 2}, "labels", "warning", "2 x image without a label"),
        ({"duplicates": ((SECRET, SECRET, SECRET),)}, "duplicates", "warning", "2 images are there more than once"),
        (
            {"duplicates": ((SECRET, SECRET),), "contradictions": ((SECRET, SECRET),)},
            "duplicates",
            "warning",
            "1 picture with different labels",
        ),
        ({"num_patients": None}, "patients", "not checked", "The images name no patients"),
        ({"num_patients_on_two_sides": 1}, "patients", "not ready", "1 patient has images in more than one part"),
    ],
)
def test_each_flaw_is_told_and_no_other_check_minds(
    changes: dict[str, object], name: str, verdict: str, words: str
) -> None:
    findings = look(sound(**changes))
    assert findings[name].verdict == verdict
    assert words in findings[name].text
    assert all(SECRET not in finding.text for finding in findings.values())


def test_only_the_most_frequent_sizes_are_listed() -> None:
    findings = look(sound(sizes={(32 + side, 32 + side): 10 - side for side in range(8)}))
    assert "3 other sizes" in findings["sizes"].text


def test_without_a_run_the_folder_is_described_all_the_same() -> None:
    assert {finding.verdict for finding in look(sound(), None).values()} == {"ready"}


def test_reports_that_are_passed_over_are_told_and_no_flaw() -> None:
    finding = look(sound(num_without_image=2))["unreadable"]
    assert finding.verdict == "ready"
    assert "2 DICOM files without an image, such as reports, are ignored." in finding.text
