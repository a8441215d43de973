"""The report of a run whose images may be copies of training images, and its reasons, whole."""

import json
from pathlib import Path

import pytest

from fl_app.files import write_json
from fl_app.runs.folder import RunFolder
from fl_app.runs.report.reading import read_material
from fl_app.runs.report.verdict import headline
from fl_app.runs.status import Status
from tests.runs.report.made_up import make_run, put_aside, write_audit
from tests.runs.report.page import page_of


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def test_the_images_of_a_quarantined_model_are_left_out_and_the_page_says_so(run: Path) -> None:
    assert "It holds generated images, and none of a site." in page_of(run).text
    write_audit(run)
    put_aside(run, "it repeats them")
    page = page_of(run)
    assert "Warning: The model is quarantined: its images may be copies of training images" in page.text
    assert "It holds no generated images, and none of a site." in page.text
    assert not [name for name, _ in page.elements if name == "img"]


def test_an_exceeded_audit_without_the_gate_shows_images_with_a_warning(run: Path) -> None:
    write_audit(run)
    page = page_of(run)
    assert "these images may be copies of training images. Do not pass this page on." in page.text
    assert "It holds generated images, which may be copies of training images." in page.text
    assert [name for name, _ in page.elements if name == "img"]


def test_a_reason_with_a_semicolon_is_one_reason(run: Path) -> None:
    status = Status(RunFolder(run))
    reasons = ["the diffusion model is quarantined: an AUC of 0.8; 90 of 90 are near copies", "no site answered"]
    for one in reasons:
        status.blemish(one)
    status.end()
    assert list(headline(read_material(run, 0.0)).reasons) == reasons
    document = json.loads((run / "status.json").read_text(encoding="utf-8"))
    assert document["reason"] == "; ".join(reasons)
    write_json(run / "status.json", {**document, "reasons": [], "reason": "one; two"})  # of an older version
    assert list(headline(read_material(run, 0.0)).reasons) == ["one", "two"]
