"""`fl-app prototypes`: a new hospital measures, and joins a finished model."""

import csv
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from fl_app.classification.joining import read_handover
from fl_app.classification.model import ClassifierModel, read_classifier
from fl_app.cli.app import app
from fl_app.errors import DataError, FlAppError, OptionError, RunFolderError
from fl_app.files import write_manifest
from fl_app.runs.folder import RunFolder
from tests.classification.models import make_classifier, make_images, write_folder
from tests.cli.test_predict import make_run


def prototypes(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["prototypes", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The new hospital's images: 4 dark ones, and 12 striped ones, which no site of the run held."""
    return write_folder(tmp_path / "data", make_images((4, 0, 12), 2))


def model_of(run: Path) -> ClassifierModel:
    return read_classifier(run / "classification" / "model")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(kind: type[FlAppError], run: Path, *arguments: str | Path) -> str:
    """Return the error's text, having checked that it is one line and that the model stays as it was."""
    model = run / "classification" / "model"
    before = contents(model)
    with pytest.raises(kind) as caught:
        prototypes(*arguments)
    assert contents(model) == before
    assert [path.name for path in model.parent.iterdir()] == ["model"]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_class_that_the_new_site_alone_holds_becomes_predictable(run: Path, data: Path, tmp_path: Path) -> None:
    striped = write_folder(tmp_path / "new", make_images((0, 0, 5), 9))

    def predicted() -> set[str]:
        shown = CliRunner().invoke(app, ["predict", str(run), str(striped)], catch_exceptions=False).stdout
        return {row["predicted"] for row in csv.DictReader(io.StringIO(shown))}

    assert "striped" not in predicted()
    prototypes("add", run, data, "--site", "site-9")
    assert predicted() == {"striped"}


def test_add_says_what_changed(run: Path, data: Path) -> None:
    assert prototypes("add", run, data, "--site", "site-9").splitlines() == [
        "site-9: 16 images (dark 4, striped 12)",
        "new classes: striped",
        "classes known: dark, bright, striped",
        f"model: {run / 'classification' / 'model'}",
    ]


def test_add_says_that_another_head_ships(tmp_path: Path, data: Path) -> None:
    run = make_run(tmp_path / "linear", shipped="linear")
    said = prototypes("add", run, data, "--site", "site-9")
    assert "head: lda instead of linear, since linear cannot name striped" in said
    assert model_of(run).shipped == "lda"


def test_a_file_of_sums_adds_the_same_as_the_folder_itself(run: Path, data: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    all_classes = ("--min-class-count", "1")
    said = prototypes("measure", run, data, "--site", "site-9", "--out", tmp_path / "sums", *all_classes)
    assert said == f"site-9: 16 images (dark 4, striped 12)\nsums, no image among them: {tmp_path / 'sums'}\n"
    prototypes("add", run, tmp_path / "sums", "--site", "site-9")
    prototypes("add", other / "classification" / "model", data, "--site", "site-9")
    assert contents(run / "classification" / "model") == contents(other / "classification" / "model")


def test_the_result_is_the_model_of_a_run_that_had_the_site_from_the_start(run: Path, data: Path) -> None:
    prototypes("add", run, data, "--site", "site-9")
    whole = make_classifier({"site-0": (20, 15, 0), "site-1": (5, 10, 0), "site-9": (4, 0, 12)})
    found = model_of(run)
    assert all(np.allclose(found.pooled[key], value, rtol=1e-5, atol=1e-5) for key, value in whole.pooled.items())


def test_measuring_changes_no_model(run: Path, data: Path, tmp_path: Path) -> None:
    before = contents(run)
    prototypes("measure", run, data, "--site", "site-9", "--out", tmp_path / "sums")
    assert contents(run) == before


@pytest.mark.parametrize("way", ["folder", "file"])
def test_small_classes_are_withheld(run: Path, data: Path, tmp_path: Path, way: str) -> None:
    fewest = ("--min-class-count", "5")
    if way == "file":
        said = prototypes("measure", run, data, "--site", "site-9", "--out", tmp_path / "sums", *fewest)
        assert read_handover(tmp_path / "sums").moments["count"].tolist() == [0, 0, 12]
        prototypes("add", run, tmp_path / "sums", "--site", "site-9")
    else:
        said = prototypes("add", run, data, "--site", "site-9", *fewest)
    assert "site-9: 12 images (striped 12)\nwithheld, too few images: dark\n" in said
    assert model_of(run).pooled["count"].tolist() == [25, 25, 12]


@pytest.mark.parametrize("command", ["measure", "add"])
def test_where_every_class_is_withheld_there_is_nothing_to_add(
    run: Path, data: Path, tmp_path: Path, command: str
) -> None:
    out = ("--out", tmp_path / "sums") if command == "measure" else ()
    arguments = (command, run, data, "--site", "site-9", "--min-class-count", "50", *out)
    assert "nothing to add" in refusal(DataError, run, *arguments)
    assert not (tmp_path / "sums").exists()


@pytest.mark.parametrize("site", ["site-0", "site-9"])
def test_the_same_site_is_not_added_twice(run: Path, data: Path, site: str) -> None:
    prototypes("add", run, data, "--site", "site-9")
    text = refusal(OptionError, run, "add", run, data, "--site", site)
    assert f"Site '{site}' is in this model already" in text


def test_a_class_that_the_model_does_not_know_is_refused(run: Path, data: Path) -> None:
    (data / "dark").rename(data / "drak")
    text = refusal(DataError, run, "add", run, data, "--site", "site-9")
    assert "its classes are dark, bright, striped. Did you mean 'dark'?" in text


@pytest.mark.parametrize("name", ["", "a b", "..", "a/b"])
@pytest.mark.parametrize("command", ["measure", "add"])
def test_a_site_has_a_plain_name(run: Path, data: Path, tmp_path: Path, command: str, name: str) -> None:
    out = ("--out", tmp_path / "sums") if command == "measure" else ()
    assert "--site must consist of" in refusal(OptionError, run, command, run, data, "--site", name, *out)


def test_empty_missing_and_wrong_data_are_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("no sums")
    for name, words in {
        "empty": "empty holds no image",
        "nowhere": "nowhere: no such file or folder",
        "text": "text is not a complete file of sums",
    }.items():
        kind = OptionError if name == "nowhere" else DataError
        assert words in refusal(kind, run, "add", run, tmp_path / name, "--site", "site-9")
    arguments = ("measure", run, tmp_path / "text", "--site", "site-9", "--out", tmp_path / "sums")
    assert "text is no folder" in refusal(OptionError, run, *arguments)


def test_out_must_be_a_file(run: Path, data: Path, tmp_path: Path) -> None:
    text = refusal(OptionError, run, "measure", run, data, "--site", "site-9", "--out", tmp_path)
    assert "--out must name a file" in text


def test_a_file_of_sums_was_counted_where_it_was_measured(run: Path, data: Path, tmp_path: Path) -> None:
    prototypes("measure", run, data, "--site", "site-9", "--out", tmp_path / "sums")
    arguments = ("add", run, tmp_path / "sums", "--site", "site-9", "--min-class-count", "3")
    assert "--min-class-count is for a folder" in refusal(OptionError, run, *arguments)


def test_a_file_of_another_site_is_refused(run: Path, data: Path, tmp_path: Path) -> None:
    prototypes("measure", run, data, "--site", "site-9", "--out", tmp_path / "sums")
    text = refusal(OptionError, run, "add", run, tmp_path / "sums", "--site", "site-8")
    assert "holds the sums of 'site-9'" in text


Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]
Change = Callable[[Arrays, dict[str, str]], None]


def _fewer_features(arrays: Arrays, about: dict[str, str]) -> None:
    arrays["sum"], arrays["outer"] = arrays["sum"][:, :5], arrays["outer"][:5, :5]


def _fewer_classes(arrays: Arrays, about: dict[str, str]) -> None:
    for name in ("count", "sum", "withheld"):
        arrays[name] = arrays[name][:2]


def _not_a_number(arrays: Arrays, about: dict[str, str]) -> None:
    arrays["sum"][0, 0] = np.nan


def _negative(arrays: Arrays, about: dict[str, str]) -> None:
    arrays["count"][0] = -4


def _other_classes(arrays: Arrays, about: dict[str, str]) -> None:
    about["classes"] = '["bright", "dark", "striped"]'


def _other_model(arrays: Arrays, about: dict[str, str]) -> None:
    about["model"] = "0" * 64


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (_fewer_features, OptionError, "'sum' is [3, 5], the model's 3 classes and 6 features make [3, 6]"),
        (_fewer_classes, OptionError, "'count' is [2], the model's 3 classes and 6 features make [3]"),
        (_not_a_number, DataError, "'sum' hold a number that is not finite"),
        (_negative, DataError, "'count' hold a negative number"),
        (_other_classes, OptionError, "holds sums of the classes bright, dark, striped; the model knows dark, bright"),
        (_other_model, OptionError, "another model's weights"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    run: Path, data: Path, tmp_path: Path, change: Change, kind: type[FlAppError], words: str
) -> None:
    prototypes("measure", run, data, "--site", "site-9", "--out", tmp_path / "sums")
    arrays = load_file(tmp_path / "sums")
    found = read_handover(tmp_path / "sums")
    about = {"kind": "fl-app sums of embeddings 1", "site": "site-9", "model": found.model}
    about["classes"] = '["dark", "bright", "striped"]'
    change(arrays, about)
    save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, tmp_path / "sums", about)
    assert words in refusal(kind, run, "add", run, tmp_path / "sums", "--site", "site-9")


def test_an_interrupted_write_leaves_the_earlier_model_whole(
    run: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    write_bytes = Path.write_bytes

    def full_at_the_second_file(self: Path, content: bytes) -> int:
        written.append(self)
        if len(written) > 1:
            write_bytes(self, content[:9])
            raise OSError(28, "No space left on device")
        return write_bytes(self, content)

    monkeypatch.setattr(Path, "write_bytes", full_at_the_second_file)
    assert "could not be written" in refusal(RunFolderError, run, "add", run, data, "--site", "site-9")
    assert len(written) == 2


def test_after_a_kill_between_the_two_renames_the_earlier_model_is_used_and_can_be_added_to(
    run: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run / "classification"
    rename = Path.rename

    def killed_at_the_second(self: Path, target: Path) -> Path:
        if self.name == ".model.partial":
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed_at_the_second)
        assert CliRunner().invoke(app, ["prototypes", "add", str(run), str(data), "--site", "site-9"]).exit_code != 0
    assert sorted(path.name for path in folder.iterdir()) == [".model.old", ".model.partial"]
    prototypes("add", run, data, "--site", "site-9")
    assert [path.name for path in folder.iterdir()] == ["model"]
    assert model_of(run).known.all()


def test_two_additions_at_once_are_refused_rather_than_one_lost(run: Path, data: Path) -> None:
    folder = RunFolder(run)
    folder.lock()
    try:
        assert "still going on" in refusal(RunFolderError, run, "add", run, data, "--site", "site-9")
    finally:
        folder.unlock()
    prototypes("add", run, data, "--site", "site-9")


def test_a_copy_of_the_model_alone_can_be_added_to(run: Path, data: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run / "classification" / "model", tmp_path / "copied"))
    prototypes("add", copy, data, "--site", "site-9")
    assert read_classifier(copy).known.all()


def test_a_folder_that_may_not_be_written_is_an_error_of_ours(
    run: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(file: object, how: int) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("fl_app.runs.folder.fcntl.flock", read_only)
    assert "cannot be written: Permission denied" in refusal(RunFolderError, run, "add", run, data, "--site", "site-9")


def test_sums_of_the_nodes_own_networks_are_mixed_with_a_note(run: Path, data: Path) -> None:
    file = run / "classification" / "model" / "model.json"
    file.write_text(file.read_text().replace('"consistent"', '"piggyback"'))
    write_manifest(file.parent)
    assert "Note: the run measured its sums" in prototypes("add", run, data, "--site", "site-9")
