"""What leaves with an exported model: no site's name unless asked, and a statement of its licence."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fl_app.cli.app import app
from fl_app.errors import OptionError, RunFolderError
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue
from fl_app.runs.joined import known_sites, note_joined
from tests.classification.models import make_images, save_image
from tests.federation import run_federation
from tests.options import run_config
from tests.tiny import tiny_run

SITES = ("site-0", "site-1", "site-2")


def run(tmp_path: Path, options: dict[str, OptionValue]) -> Path:
    run_federation(tiny_run(tmp_path, options), 3)
    return tmp_path / "run"


def record_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "classification/model/model.json").read_text())["record"]
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of both tasks with the default options of the export."""
    return run(
        tmp_path_factory.mktemp("plain"), {"tasks": "diffusion,classification", "classification.baselines": "FedProx"}
    )


def test_no_file_of_an_exported_model_holds_the_name_of_a_site(plain: Path) -> None:
    files = [file for model in plain.glob("*/model") for file in model.rglob("*") if file.is_file()]
    assert len({file.relative_to(plain).parts[0] for file in files}) == 3
    assert [file for file in files if any(site.encode() in file.read_bytes() for site in SITES)] == []
    record = record_of(plain)
    assert (record["num-sites"], record["num-left-out"]) == (3, {})


def test_the_coordinators_own_record_still_names_the_sites(plain: Path) -> None:
    found = json.loads((plain / "classification/prototypes/round-0002.json").read_text())
    assert found["contributed"] == list(SITES)


def test_sites_are_named_and_the_licence_is_stated_if_the_run_asks_for_it(tmp_path: Path) -> None:
    options: dict[str, OptionValue] = {
        "tasks": "classification",
        "export.site-names": True,
        "export.licence": "CC BY-NC 4.0",
    }
    record = record_of(run(tmp_path, options))
    assert record["contributed"] == list(SITES) and record["left-out"] == {}
    assert "\nLicence: CC BY-NC 4.0\n" in (tmp_path / "run/classification/model/README.md").read_text()


@pytest.mark.parametrize("task", ["diffusion", "classification", "classification-fedprox"])
def test_without_a_licence_every_model_says_that_none_is_stated(plain: Path, task: str) -> None:
    assert "\nLicence: not stated. The hospitals" in (plain / task / "model/README.md").read_text()
    assert "README.md" in (plain / task / "model/SHA256SUMS").read_text()


@pytest.mark.parametrize("licence", ["two\nlines", "\x1b[31mred", "x" * 201])
def test_a_licence_is_one_line_of_text(licence: str) -> None:
    with pytest.raises(OptionError, match=r"export\.licence"):
        run_config({"export.licence": licence})


def test_a_run_of_an_older_version_goes_on_without_names() -> None:
    options = {name: value for name, value in run_config().to_flat().items() if not name.startswith("export.")}
    assert RunConfig.from_flat(options).export.site_names is False


def add(model: Path, images: Path, site: str) -> str:
    found = CliRunner().invoke(app, ["prototypes", "add", str(model), str(images), "--site", site])
    if isinstance(found.exception, OptionError):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.stdout


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a hospital's folder of six images of the digit 3."""
    of_class = tmp_path / "images" / "3"
    of_class.mkdir(parents=True)
    for number, image in enumerate(make_images((6, 0, 0), 2).images):
        save_image(image, of_class / f"{number}.png")
    return of_class.parent


def test_the_run_folder_keeps_sites_from_being_counted_twice_in_a_model_that_names_nobody(
    plain: Path, images: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(plain, tmp_path / "copy"))
    model = folder / "classification/model"
    with pytest.raises(OptionError, match="Site 'site-1' is in this model already"):
        add(model, images, "site-1")
    assert "Note" not in add(model, images, "west")
    assert known_sites(model) == [*SITES, "west"] and "west" not in (model / "model.json").read_text()
    (images / "3/0.png").unlink()
    with pytest.raises(OptionError, match="Site 'west' is in this model already"):
        add(model, images, "west")


def test_a_copy_that_names_nobody_says_that_it_cannot_check_who_joins(
    plain: Path, images: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(plain / "classification/model", tmp_path / "copied"))
    assert "Note: this copy does not name its sites. Make sure that 'site-1'" in add(model, images, "site-1")
    assert not (tmp_path / "joined.json").exists()
    with pytest.raises(OptionError, match="These very sums are in this model already"):
        add(model, images, "west")


def test_a_damaged_list_of_those_who_joined_is_an_error_of_ours(tmp_path: Path) -> None:
    model = tmp_path / "model"
    (tmp_path / "prototypes").mkdir()
    note_joined(model, "west")
    (tmp_path / "joined.json").write_text('["west", 5]')
    with pytest.raises(RunFolderError, match=r"joined\.json is damaged"):
        note_joined(model, "east")
