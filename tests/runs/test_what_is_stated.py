"""What people read of a run says what is so: damage, older versions, and what was not done."""

from dataclasses import replace
from pathlib import Path

import pytest

from fl_app.api.run import Run, open_run
from fl_app.cli.status import describe
from fl_app.errors import RunFolderError, UnknownRunError
from fl_app.files import write_json
from fl_app.quality.figure import KERNEL, Figure
from fl_app.runs.cards import describe_model
from fl_app.runs.quality import QUALITY, describe_quality, read_quality, write_quality
from fl_app.runs.report.reading import read_material
from tests.runs.report.made_up import make_run
from tests.runs.report.page import page_of

NOT_SEARCHED = "opies were not searched"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", state="completed")


def lines_of(run: Path) -> str:
    return "\n".join(describe(Run(run).status()))


def write_old_audit(run: Path) -> None:
    """Write an audit of the version that did not look for copies."""
    membership = {"verdict": "passed", "reason": "an AUC of 0.5"}
    write_json(run / "diffusion" / "audit.json", {"membership": membership, "max-auc": 0.65})


def test_half_a_file_of_figures_is_called_damaged_and_not_missing(run: Path) -> None:
    assert "is damaged" not in lines_of(run)
    (run / QUALITY).write_text('{"round": 3, "fig', encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"its diffusion/quality\.json is damaged"):
        Run(run).quality()
    assert "generated images: diffusion/quality.json is damaged" in lines_of(run)
    (run / QUALITY).unlink()
    with pytest.raises(RunFolderError, match=r"it holds no diffusion/quality\.json"):
        Run(run).quality()
    assert "generated images" not in lines_of(run)


def test_an_audit_of_an_older_version_has_its_verdict_and_says_that_copies_were_not_searched(run: Path) -> None:
    write_old_audit(run)
    found = Run(run).audit()
    assert (found.verdict, found.reason) == ("passed", "an AUC of 0.5")
    assert NOT_SEARCHED in lines_of(run)
    page = page_of(run).text
    assert "? open Audit of copies: copies were not searched." in page and page.count(NOT_SEARCHED) == 2
    card = describe_model(read_material(run, 0.0), "diffusion")
    assert "Copies among generated images: not searched." in card


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_stopped_run_can_be_resumed_if_its_options_are_there(run: Path, is_damaged: bool) -> None:
    write_json(run / "status.json", {"state": "running"})
    if is_damaged:
        (run / "run.json").write_text('{"half', encoding="utf-8")
    texts = (page_of(run).text, lines_of(run))
    for text in texts:
        assert ("can be resumed" in text) is not is_damaged
        assert ("this run cannot be resumed" in text) is is_damaged


def test_a_damaged_audit_is_told_once_without_a_path_of_this_machine(run: Path) -> None:
    (run / "diffusion" / "audit.json").write_text('{"half', encoding="utf-8")
    (run.parent / "other").mkdir()
    page = page_of(run.parent / "other" / ".." / "run").text
    assert page.count("audit.json is damaged") == 1 and "diffusion/audit.json is damaged" in page
    assert str(run.parent) not in page and ".." not in page


def figures_of(run: Path, *figures: Figure) -> tuple[str, str, str]:
    """Write figures of generated images, and return what the terminal, the report and the card say of them."""
    document = read_quality(run)
    assert document is not None
    write_quality(run, replace(document, figures=figures))
    card = describe_model(read_material(run, 0.0), "diffusion")
    return "\n".join(describe_quality(run)), page_of(run).text, card


def test_training_on_real_images_is_said_to_be_on_each_sites_own_ones_wherever_it_stands(run: Path) -> None:
    synthetic = Figure("trained-on-synthetic", "", None, 0.93, num_real=20, num_sites=2)
    real = Figure("trained-on-real", "", None, 0.721, num_real=20, num_sites=2)
    own = "rained on as many of the site's own images, which may lack classes"
    terminal, page, card = figures_of(run, synthetic, real)
    assert f"{own}: 0.721" in terminal
    assert page.count(own) == 2 and f"{own}: 0.721" in page  # in the table, and beside the main figure
    assert f"{own} | 0.721 |" in card


def test_the_floor_of_a_distance_has_its_error_if_it_is_known(run: Path) -> None:
    known = Figure(KERNEL, "pixels", None, 0.5, error=0.02, floor=0.1, floor_error=0.03, num_real=20, num_sites=2)
    terminal, page, card = figures_of(run, known)
    assert "0.5 ± 0.02 (0.1 ± 0.03)" in terminal
    assert "0.1 ± 0.03" in page and "| 0.1 ± 0.03 |" in card
    terminal, page, card = figures_of(run, replace(known, floor_error=None))
    assert "0.5 ± 0.02 (0.1)" in terminal and "0.03" not in page and "| 0.1 |" in card


def test_a_folder_that_is_no_run_is_not_called_missing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnknownRunError, match=r"empty is no run folder: it holds no run\.json\."):
        open_run(tmp_path / "empty", tmp_path)
    with pytest.raises(UnknownRunError, match=r"empty is no run folder: it holds no run\.json\."):
        open_run("empty", tmp_path)
    with pytest.raises(UnknownRunError, match=r"^No run 'nowhere'"):
        open_run("nowhere", tmp_path)
