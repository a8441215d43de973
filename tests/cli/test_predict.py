"""`fl-app predict`: a line for each image, or one clear error and nothing written."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fl_app import files
from fl_app.classification.model import write_classifier
from fl_app.cli.app import app
from fl_app.errors import DataError, FlAppError, OptionError, RunFolderError
from tests.classification.models import make_classifier, make_images, save_image, write_folder

SITES = {"site-0": (20, 15, 0), "site-1": (5, 10, 0)}


def make_run(folder: Path, num_channels: int = 1, abstain_distance: float | None = None, shipped: str = "lda") -> Path:
    """Write a run folder with a classification model."""
    model = folder / "classification" / "model"
    model.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    write_classifier(make_classifier(SITES, shipped, num_channels, abstain_distance), model)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run")


def predict(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["predict", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def read_table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def refusal(kind: type[FlAppError], *arguments: str | Path, out: Path) -> str:
    """Return the error's text, having checked that it is one line and that nothing was written."""
    before = sorted(out.parent.rglob("*"))
    with pytest.raises(kind) as caught:
        predict(*arguments, "--out", out)
    assert sorted(out.parent.rglob("*")) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_each_image_is_a_line_with_class_and_probabilities(run: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "new", make_images((2, 3, 0), 7))
    rows = read_table(predict(run, folder))
    assert list(rows[0]) == [
        *("file", "predicted", "probability", "distance", "abstain"),
        *("p(dark)", "p(bright)", "p(striped)"),
    ]
    assert [row["file"] for row in rows] == sorted(str(path) for path in folder.rglob("*.png"))
    assert all(Path(row["file"]).parent.name == row["predicted"] for row in rows)
    for row in rows:
        probabilities = [float(row[f"p({name})"]) for name in ("dark", "bright", "striped")]
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        assert float(row["probability"]) == max(probabilities)
        assert probabilities[2] == 0
        assert float(row["distance"]) > 0
        assert row["abstain"] == "false"


def test_the_folder_of_the_model_serves_as_well_as_the_run(run: Path, tmp_path: Path) -> None:
    image = save_image(make_images((1, 0, 0), 7).images[0], tmp_path / "a.png")
    assert predict(run / "classification" / "model", image) == predict(run, image)


def test_json_holds_what_the_table_holds_by_the_name_of_a_run(run: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "new", make_images((1, 1, 0), 7))
    (folder / "notes.txt").write_text("no image")
    found = json.loads(predict(run.name, folder, "--runs", run.parent, "--json"))
    rows = read_table(predict(run, folder))
    assert (found["model"], found["head"]) == (str(run / "classification" / "model"), "lda")
    assert [(one["file"], one["predicted"]) for one in found["images"]] == [(r["file"], r["predicted"]) for r in rows]
    for one, row in zip(found["images"], rows, strict=True):
        assert one["distance"] == pytest.approx(float(row["distance"]), rel=1e-5)
        assert one["probabilities"].keys() == {"dark", "bright", "striped"}
    assert (found["problems"], found["passed-over"]) == ([], 1)


def test_quiet_leaves_the_table_to_out_and_wants_one(run: Path, tmp_path: Path) -> None:
    image = save_image(make_images((1, 0, 0), 7).images[0], tmp_path / "a.png")
    assert predict(run, image, "--out", tmp_path / "answers.csv", "--quiet") == ""
    assert len(read_table((tmp_path / "answers.csv").read_text())) == 1
    with pytest.raises(OptionError, match="--quiet needs --out or --json"):
        predict(run, image, "--quiet")


def test_out_holds_the_same_bytes_as_the_terminal(run: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "new", make_images((2, 1, 0), 7))
    shown = predict(run, folder)
    (tmp_path / "deep").mkdir()
    said = predict(run, folder, "--out", tmp_path / "deep" / "table.csv")
    assert (tmp_path / "deep" / "table.csv").read_text() == shown
    assert said == f"3 images: {tmp_path / 'deep' / 'table.csv'}\n"


def test_files_and_folders_come_in_the_order_given(run: Path, tmp_path: Path) -> None:
    image = make_images((1, 0, 0), 7).images[0]
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    names = ["z.png", "folder/b.PNG", "folder/a.jpeg", "folder/sub/c.jpg"]
    for name in names:
        save_image(image, tmp_path / name)
    rows = read_table(predict(run, tmp_path / "z.png", tmp_path / "folder"))
    expected = ["z.png", "folder/a.jpeg", "folder/b.PNG", "folder/sub/c.jpg"]
    assert [row["file"] for row in rows] == [str(tmp_path / name) for name in expected]


def test_more_images_than_are_read_at_once_all_get_their_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "new", make_images((3, 2, 0), 7))
    whole = predict(run, folder)
    monkeypatch.setattr("fl_app.api.classifier._CHUNK", 2)
    in_parts = predict(run, folder)
    assert [row["file"] for row in read_table(in_parts)] == [row["file"] for row in read_table(whole)]
    assert [row["predicted"] for row in read_table(in_parts)] == [row["predicted"] for row in read_table(whole)]


@pytest.mark.parametrize("name", ['a,b "c".png', "=1+1.png", "+1.png", "-x.png", "@sum.png", "two\nlines.png", "ä.png"])
def test_a_file_keeps_its_name_in_the_table(
    run: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_image(make_images((1, 0, 0), 7).images[0], tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert [row["file"] for row in read_table(predict(run, "--", name))] == [name]


def test_a_name_with_commas_and_quotes_is_quoted_once(run: Path, tmp_path: Path) -> None:
    save_image(make_images((1, 0, 0), 7).images[0], tmp_path / 'a,b "c".png')
    predict(run, tmp_path / 'a,b "c".png', "--out", tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().splitlines()[1].startswith(f'"{tmp_path}/a,b ""c"".png",dark,')


def test_a_name_that_is_no_text_is_written_as_the_bytes_that_it_is(run: Path, tmp_path: Path) -> None:
    image = save_image(make_images((1, 0, 0), 7).images[0], tmp_path / "a.png")
    odd = image.rename(tmp_path / "\udcff.png")
    predict(run, odd, "--out", tmp_path / "t.csv")
    assert b"\xff.png,dark" in (tmp_path / "t.csv").read_bytes()


def test_another_head_can_be_named(run: Path, tmp_path: Path) -> None:
    image = save_image(make_images((1, 0, 0), 7).images[0], tmp_path / "a.png")
    tables = {head: predict(run, image, "--head", head) for head in ("lda", "cosine", "linear")}
    assert tables["lda"] == predict(run, image)
    assert len(set(tables.values())) == 3


def test_an_image_farther_off_than_the_model_was_tested_on_is_marked(run: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "new", make_images((1, 0, 1), 7))
    near, far = sorted(float(row["distance"]) for row in read_table(predict(run, folder)))
    strict = make_run(tmp_path / "strict", abstain_distance=(near + far) / 2)
    rows = read_table(predict(strict, folder))
    assert {Path(row["file"]).parent.name: row["abstain"] for row in rows} == {"dark": "false", "striped": "true"}


def test_colour_models_take_colour_images(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", num_channels=3)
    folder = write_folder(tmp_path / "new", make_images((2, 2, 0), 7, num_channels=3))
    assert [row["predicted"] for row in read_table(predict(run, folder))] == ["bright"] * 2 + ["dark"] * 2


def test_converting_scales_as_in_training(run: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "new", make_images((2, 2, 0), 7, size=24))
    rows = read_table(predict(run, folder, "--convert"))
    assert [row["predicted"] for row in rows] == ["bright"] * 2 + ["dark"] * 2


def test_what_is_no_image_in_a_folder_is_passed_over_and_counted(run: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "new", make_images((1, 0, 0), 7))
    for name in ("scan.dc", "notes.txt", ".hidden.png", "Thumbs.db"):
        (folder / name).write_bytes(b"x")
    result = CliRunner().invoke(app, ["predict", str(run), str(folder)], catch_exceptions=False)
    assert len(read_table(result.stdout)) == 1
    assert result.stderr == "Passed over in the folders: files that are no images, 2 of them.\n"


@pytest.mark.parametrize("content", [b"", b"no image", b"GIF89a" + b"\0" * 40, b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_file_that_is_no_image_is_refused_by_name(run: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    text = refusal(DataError, run, tmp_path / "a.png", out=tmp_path / "t.csv")
    assert f"{tmp_path / 'a.png'} cannot be read as an image" in text


@pytest.mark.parametrize("chunk", [1, 1000])
def test_a_broken_file_among_many_is_named_and_the_others_have_their_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr("fl_app.api.classifier._CHUNK", chunk)
    folder = write_folder(tmp_path / "new", make_images((2, 2, 0), 7))
    (folder / "broken.png").write_bytes(b"no image")
    result = CliRunner().invoke(app, ["predict", str(run), str(folder)], catch_exceptions=False)
    assert result.exit_code == 1
    assert [row["predicted"] for row in read_table(result.stdout)] == ["bright"] * 2 + ["dark"] * 2
    assert f"{folder / 'broken.png'} cannot be read as an image" in result.stderr
    assert result.stderr.endswith("1 of 5 files cannot be read and have no line.\n")


def test_an_image_that_does_not_fit_leaves_an_earlier_table_whole(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fl_app.api.classifier._CHUNK", 1)
    folder = write_folder(tmp_path / "new", make_images((2, 2, 0), 7))
    Image.new("L", (9, 7)).save(folder / "zebra.png")
    (tmp_path / "t.csv").write_text("earlier")
    refusal(DataError, run, folder, out=tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "earlier"


@pytest.mark.parametrize(("mode", "num_channels"), [("RGB", 1), ("RGBA", 1), ("L", 3), ("LA", 3), ("1", 3)])
def test_other_channels_are_refused_unless_they_may_be_converted(tmp_path: Path, mode: str, num_channels: int) -> None:
    run = make_run(tmp_path / "run", num_channels)
    Image.new(mode, (8, 8)).save(tmp_path / "a.png")
    text = refusal(DataError, run, tmp_path / "a.png", out=tmp_path / "t.csv")
    found, expected = ("RGB", "grey") if num_channels == 1 else ("grey", "RGB")
    assert f"a.png is {found}, the model takes {expected} images" in text
    assert len(read_table(predict(run, tmp_path / "a.png", "--convert"))) == 1


@pytest.mark.parametrize(("colours", "is_grey"), [((0, 0, 0, 90, 90, 90), True), ((0, 0, 0, 90, 0, 0), False)])
def test_a_palette_is_as_grey_as_its_colours(
    run: Path, tmp_path: Path, colours: tuple[int, ...], is_grey: bool
) -> None:
    image = Image.fromarray(np.tile(np.array([0, 1], dtype=np.uint8), (8, 4)), mode="L").convert("P")
    image.putpalette(colours)
    image.save(tmp_path / "a.png")
    if is_grey:
        assert len(read_table(predict(run, tmp_path / "a.png"))) == 1
    else:
        assert "a.png is RGB" in refusal(DataError, run, tmp_path / "a.png", out=tmp_path / "t.csv")


def test_16_bits_give_what_the_same_image_of_8_bits_gives(run: Path, tmp_path: Path) -> None:
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 4
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(pixels * 257).save(tmp_path / "a.tif")
    rows = [read_table(predict(run, tmp_path / name))[0] for name in ("a.png", "a.tif")]
    assert rows[0] | {"file": ""} == rows[1] | {"file": ""}


def test_another_size_is_refused_with_both_sizes_and_the_way_out(run: Path, tmp_path: Path) -> None:
    Image.new("L", (9, 7)).save(tmp_path / "a.png")
    text = refusal(DataError, run, tmp_path / "a.png", out=tmp_path / "t.csv")
    assert "a.png is 9 x 7 pixels, the model takes 8 x 8." in text
    assert "--convert" in text


@pytest.mark.parametrize("files", [[], ["notes.txt"], [".hidden.png"]])
def test_a_folder_without_images_is_refused(run: Path, tmp_path: Path, files: list[str]) -> None:
    (tmp_path / "empty").mkdir()
    for name in files:
        (tmp_path / "empty" / name).write_bytes(b"x")
    assert "empty holds no image" in refusal(DataError, run, tmp_path / "empty", out=tmp_path / "t.csv")


def test_a_missing_image_is_refused(run: Path, tmp_path: Path) -> None:
    text = refusal(OptionError, run, tmp_path / "nowhere.png", out=tmp_path / "t.csv")
    assert "nowhere.png: no such file or folder" in text


def test_an_unknown_head_is_refused_with_those_that_there_are(run: Path, tmp_path: Path) -> None:
    image = save_image(make_images((1, 0, 0), 7).images[0], tmp_path / "a.png")
    text = refusal(OptionError, run, image, "--head", "svm", out=tmp_path / "t.csv")
    assert text == "There is no head 'svm'. Choose one of linear, nearest-mean, cosine, lda, fedcof."


def test_a_head_that_this_model_lacks_is_refused_with_the_reason(tmp_path: Path) -> None:
    model = tmp_path / "run" / "classification" / "model"
    model.mkdir(parents=True)
    write_classifier(make_classifier({"site-0": (9, 9, 0)}), model)
    image = save_image(make_images((1, 0, 0), 7).images[0], tmp_path / "a.png")
    text = refusal(OptionError, tmp_path / "run", image, "--head", "fedcof", out=tmp_path / "t.csv")
    assert "'fedcof' is not defined in this model: no class is held by two sites" in text


def test_a_run_that_is_none_or_has_no_classifier_is_refused(tmp_path: Path) -> None:
    image = save_image(make_images((1, 0, 0), 7).images[0], tmp_path / "a.png")
    (tmp_path / "other").mkdir()
    (tmp_path / "diffusion-only").mkdir()
    (tmp_path / "diffusion-only" / "run.json").write_text("{}")
    words = {"nowhere": "no such folder", "other": "no run folder", "a.png": "no such folder"}
    words["diffusion-only"] = "no finished classification model"
    for name, expected in words.items():
        text = refusal(RunFolderError, tmp_path / name, image, out=tmp_path / "t.csv")
        assert f"{tmp_path / name}: {expected}" in text


@pytest.mark.parametrize("victim", ["model.safetensors", "heads.safetensors", "prototypes.safetensors", "classes.json"])
def test_a_damaged_model_is_refused(tmp_path: Path, victim: str) -> None:
    run = make_run(tmp_path / "run")
    (run / "classification" / "model" / victim).write_bytes(b"half")
    image = save_image(make_images((1, 0, 0), 7).images[0], tmp_path / "a.png")
    assert "is damaged" in refusal(RunFolderError, run, image, out=tmp_path / "t.csv")


def test_a_model_whose_replacement_was_killed_halfway_is_put_back(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    image = save_image(make_images((1, 0, 0), 7).images[0], tmp_path / "a.png")
    expected = predict(run, image)
    (run / "classification" / "model").rename(run / "classification" / ".model.old")
    assert predict(run, image) == expected


def test_out_must_be_a_file_and_none_of_the_images(run: Path, tmp_path: Path) -> None:
    image = save_image(make_images((1, 0, 0), 7).images[0], tmp_path / "a.png")
    with pytest.raises(OptionError, match="--out must name a file"):
        predict(run, image, "--out", tmp_path)
    with pytest.raises(OptionError, match="--out must not name one of the images"):
        predict(run, tmp_path, "--out", image)
    Image.open(image).verify()


def test_a_full_disk_leaves_an_earlier_table_whole(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    image = save_image(make_images((1, 0, 0), 7).images[0], tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("earlier")
    monkeypatch.setattr(files, "_sync", disk_full)
    assert "could not be written" in refusal(RunFolderError, run, image, out=tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "earlier"
