"""What fails before Flower is started."""

from pathlib import Path

import pytest

from fl_app.errors import DataError, FlAppError, OptionError, RunFolderError
from fl_app.files import write_json
from fl_app.options.sections import OptionValue
from fl_app.runs.opening import open_run
from fl_app.simulation.choices import check_before_start
from tests.data.conftest import write_images
from tests.tiny import tiny_run


def check(output: Path, overrides: dict[str, OptionValue] | None = None, resumed: Path | None = None) -> None:
    check_before_start(tiny_run(output, overrides), 3, output, resumed)


def test_a_run_that_can_start_passes(tmp_path: Path) -> None:
    check(tmp_path / "new")
    assert (tmp_path / "new").is_dir()


@pytest.mark.parametrize(
    ("overrides", "kind", "words"),
    [
        ({"data.image-size": 7}, OptionError, "7 pixels cannot be halved"),
        ({"data.source": "pneumonia"}, OptionError, "pneumoniamnist"),
        ({"data.source": "folder"}, OptionError, "image-size"),
        ({"data.source": "mnist", "data.directory": "/nowhere"}, DataError, "/nowhere"),
        (
            {"quality.num-images": 8, "quality.features": "file", "quality.network-file": "/nowhere"},
            FlAppError,
            "There is no feature network at /nowhere",
        ),
        ({"partition.scheme": "pathological", "partition.classes-per-node": 11}, OptionError, "classes-per-node"),
    ],
)
def test_options_that_do_not_fit_the_images_fail_at_once(
    overrides: dict[str, OptionValue], kind: type[FlAppError], words: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=words):
        check(tmp_path, overrides)


@pytest.mark.parametrize("kind", ["stated", "folder", "sites"])
def test_a_classifier_of_one_class_is_an_error_before_anything_starts(kind: str, tmp_path: Path) -> None:
    options: dict[str, OptionValue] = {
        "tasks": "diffusion,classification",
        "data.source": "folder",
        "data.directory": str(tmp_path / "images"),
        "data.class-names": "7" if kind == "stated" else "",
        "data.image-size": 8,
        "data.limit": 0,
        "partition.scheme": "sites" if kind == "sites" else "iid",
    }
    for site in ("north", "south", "west") if kind == "sites" else ("",):
        write_images(tmp_path / "images" / site, {"7": 30})
    with pytest.raises(OptionError, match=r"'classification' needs at least two classes, found one: 7\."):
        check(tmp_path / "runs", options)
    check(tmp_path / "runs", options | {"tasks": "diffusion"})


def test_an_output_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunFolderError, match="No run folder can be made in"):
        check(tmp_path / "file" / "runs")


def test_a_finished_run_is_not_resumed(tmp_path: Path) -> None:
    folder = open_run(tiny_run(tmp_path), 1)
    folder.unlock()
    check(tmp_path, {"resume": str(folder.path)}, folder.path)
    write_json(folder.status_file, {"state": "completed"})
    with pytest.raises(RunFolderError, match="is finished"):
        check(tmp_path, {"resume": str(folder.path)}, folder.path)


def test_a_run_of_other_options_is_not_resumed(tmp_path: Path) -> None:
    folder = open_run(tiny_run(tmp_path), 1)
    folder.unlock()
    with pytest.raises(RunFolderError, match=r"diffusion\.epochs \(was 1\.0, is 2\.0\)"):
        check(tmp_path, {"resume": str(folder.path), "diffusion.epochs": 2}, folder.path)
