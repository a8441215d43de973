"""Model cards: Hugging Face reads them, they are filled from the run, name no site, and never cost a model."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from fl_app.files import check_manifest, write_card, write_manifest
from fl_app.runs import cards
from fl_app.runs.audit import QUARANTINED, replace_model
from fl_app.runs.cards import MODEL_CARD, describe_model, plain, write_cards
from fl_app.runs.report.reading import read_material
from tests.runs.report.made_up import TWO, exchange, make_run, put_aside

NASTY = "a|b [x](http://h) <b>_c_\n# d"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = make_run(tmp_path / "run")
    for task in ("diffusion", "classification"):
        (folder / task / "model" / "README.md").write_text("# short\n", encoding="utf-8")
        (folder / task / "model" / "unet").mkdir()
        (folder / task / "model" / "unet" / "weights").write_bytes(b"12")
        write_manifest(folder / task / "model")
    return folder


def set_options(run: Path, **options: object) -> None:
    document = json.loads((run / "run.json").read_text(encoding="utf-8"))
    document["options"] |= {name.replace("__", ".").replace("_", "-"): value for name, value in options.items()}
    (run / "run.json").write_text(json.dumps(document), encoding="utf-8")


def test_each_model_gets_a_card_inside_and_beside_it_and_stays_whole(run: Path) -> None:
    write_cards(run)
    for task in ("diffusion", "classification"):
        assert "README.md" in check_manifest(run / task / "model")
        text = (run / task / "model" / "README.md").read_text(encoding="utf-8")
        assert text == (run / task / MODEL_CARD).read_text(encoding="utf-8")
        assert (run / task / "model" / "unet" / "weights").read_bytes() == b"12"
        assert sorted(path.name for path in (run / task).glob(".*")) == []


def test_hugging_face_reads_the_figures_of_the_header(run: Path) -> None:
    write_cards(run)
    data = ModelCard.load(run / "classification" / "model" / "README.md").data
    assert (data.library_name, data.pipeline_tag, data.license) == ("pytorch", "image-classification", "unknown")
    assert data.eval_results is not None
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_split) == ("accuracy", 0.9, "test")
    drawn = ModelCard.load(run / "diffusion" / "model" / "README.md").data
    assert drawn.library_name == "diffusers" and drawn.eval_results is not None
    distance = next(one for one in drawn.eval_results if one.metric_type == "frechet-distance")
    assert (distance.metric_name, distance.task_type) == ("Fréchet distance (pixels)", "unconditional-image-generation")
    assert distance.metric_value == pytest.approx(1.08, abs=0.005)


def test_the_card_says_how_a_simulation_shared_its_images_out_and_nothing_of_hospitals_own(run: Path) -> None:
    set_options(run, data__source="digits", partition__scheme="dirichlet", partition__alpha=0.1)
    said = "It was shared out to simulated sites: dirichlet-0.1."
    assert said in describe_model(read_material(run, 0.0), "classification")
    set_options(run, data__source="folder")
    assert "shared out" not in describe_model(read_material(run, 0.0), "classification")


def test_the_card_of_a_classifier_has_its_figures_with_intervals_and_n(run: Path) -> None:
    text = describe_model(read_material(run, 0.0), "classification")
    assert "Measured on 20 test images of the sites; intervals of 95 %." in text
    assert "| accuracy | 0.900 | 0.700 to 1.000 |" in text and "| AUC | not defined |  |" in text
    assert "| malignant | 19 | 4 | 10 |" in text and "| all | 38 | 8 | 20 |" in text
    assert "Fewer than 30 training images of: malignant (19), normal, benign (19)." in text


def test_the_card_of_a_diffusion_model_has_its_figures_floors_and_audit(run: Path) -> None:
    text = describe_model(read_material(run, 0.0), "diffusion")
    assert "| Fréchet distance (pixels) | 1.08 |  | 0.69 | 20 | 40 | 2 |" in text
    assert "images, which may lack classes | not defined: a site has one class only |" in text
    assert "The model was not audited" in text
    copies = {"verdict": "passed", "reason": "0 of 9 images are near copies"}
    membership = {"verdict": "exceeded", "reason": "AUC 0.7 at north"}
    found = {"membership": membership, "copies": copies, "max-auc": 0.65, "is-quarantined": True}
    aside = run / "diffusion" / "model.quarantined"
    (run / "diffusion" / "model").rename(aside)
    (aside / "quarantine.json").write_text('{"reason": "AUC 0.7 at north"}', encoding="utf-8")
    (run / "diffusion" / "audit.json").write_text(json.dumps(found), encoding="utf-8")
    text = describe_model(read_material(run, 0.0), "diffusion")
    assert "**Quarantined.** The audit found: it knows its training images, or repeats them." in text
    assert "Membership inference: exceeded." in text  # both reasons name a site
    assert "Copies among generated images: passed: 0 of 9 images are near copies." in text


@pytest.mark.parametrize("task", ["diffusion", "classification"])
def test_no_card_names_a_site_unless_the_run_says_so(task: str, run: Path) -> None:
    text = describe_model(read_material(run, 0.0), task)
    assert "north" not in text and "south" not in text
    set_options(run, export__site_names=True)
    assert "- Sites: north, south." in describe_model(read_material(run, 0.0), task)


@pytest.mark.parametrize(
    ("licence", "found"), [("", "unknown"), ("CC BY-NC 4.0", "cc-by-nc-4.0"), ('Ours: "a" \x85#', "other")]
)
def test_the_licence_is_stated_as_hugging_face_takes_it(licence: str, found: str, run: Path) -> None:
    set_options(run, export__licence=licence)
    write_cards(run)
    card = ModelCard.load(run / "diffusion" / "model" / "README.md")
    assert card.data.license == found
    assert "\nLicence: " in card.text


def test_names_are_text_and_a_table_keeps_its_columns(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", (NASTY, "other"))
    (row,) = [
        line
        for line in describe_model(read_material(run, 0.0), "classification").splitlines()
        if "19 | 4" in line and "b" in line[:8]
    ]
    assert row.startswith(r"| a\|b \[x\](http://h) \<b\>\_c\_ \# d | 19 | 4 | 10 |")
    assert "\n" not in plain(NASTY)


def test_without_test_images_the_card_says_so_and_the_header_has_no_figure(run: Path) -> None:
    document = {**exchange(TWO, ("north", "south")), "test-set": None}
    (run / "classification" / "prototypes" / "round-0003.json").write_text(json.dumps(document), encoding="utf-8")
    write_cards(run)
    card = ModelCard.load(run / "classification" / "model" / "README.md")
    assert card.data.eval_results is None and "there are no test images" in card.text


def test_a_card_that_cannot_be_written_costs_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_folder: Path, _now: float) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(cards, "read_material", fail)
    write_cards(run)
    assert "card could not be written" in caplog.text
    assert (run / "diffusion" / "model" / "README.md").read_text(encoding="utf-8") == "# short\n"
    check_manifest(run / "diffusion" / "model")


def test_files_are_copied_where_links_are_not_possible(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_source: str, _target: str) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", fail)
    write_cards(run)
    check_manifest(run / "classification" / "model")


def test_an_empty_run_has_a_card_of_what_is_known(tmp_path: Path) -> None:
    text = describe_model(read_material(tmp_path, 0.0), "classification")
    assert "Nothing was measured." in text and "seed not known" in text
    shutil.rmtree(tmp_path)


def test_the_card_of_a_quarantined_model_says_that_drawing_needs_the_flag(run: Path) -> None:
    assert "sample <this folder>`" in describe_model(read_material(run, 0.0), "diffusion")
    put_aside(run, "it knows; them")
    text = describe_model(read_material(run, 0.0), "diffusion")
    assert "sample <this folder> --quarantined`" in text and "sample <this folder>`" not in text


def test_the_short_card_of_a_quarantined_model_says_so_too(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        write_card(folder, "Diffusion model", "`fl-app sample <this folder>` draws images.", "")

    replace_model(tmp_path, write, "it knows them")
    text = (tmp_path / QUARANTINED / "README.md").read_text(encoding="utf-8")
    assert "sample <this folder> --quarantined` draws" in text and text.endswith("Do not pass this model on.\n")
    assert "README.md" in check_manifest(tmp_path / QUARANTINED)
