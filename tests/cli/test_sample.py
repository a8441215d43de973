import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from fl_app.cli.app import app
from fl_app.errors import OptionError, RunFolderError
from fl_app.files import write_manifest
from fl_app.runs.audit import MARK, QUARANTINED, QuarantineError
from tests.federation import run_federation
from tests.tiny import tiny_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    output = tmp_path_factory.mktemp("runs")
    run_federation(tiny_run(output), 2)
    return output / "run"


def sample(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["sample", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_it_writes_one_grey_png_of_the_images_own_size_for_each(run: Path, tmp_path: Path) -> None:
    output = sample(str(run), "--class", "3", "--class", "7", "-n", "2", "--out", str(tmp_path / "new"))
    files = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert files == ["00000-3-3.png", "00000-7-7.png", "00001-3-3.png", "00001-7-7.png"]
    assert "4 images in 4 files" in output
    with Image.open(tmp_path / "new/00000-3-3.png") as image:
        assert (image.mode, image.size) == ("L", (8, 8))


def test_a_runs_name_will_do_and_json_names_each_picture(run: Path, tmp_path: Path) -> None:
    arguments = [run.name, "--runs", str(run.parent), "--class", "3", "-n", "2", "--out", str(tmp_path / "new")]
    result = CliRunner().invoke(app, ["sample", *arguments, "--json"], catch_exceptions=False)
    found = json.loads(result.stdout)
    assert [(Path(one["file"]).name, one["class"]) for one in found["images"]] == [
        ("00000-3-3.png", "3"),
        ("00001-3-3.png", "3"),
    ]
    assert "2 images in 2 files" in result.stderr
    assert sample(*arguments, "--quiet") == ""


def test_a_grid_is_one_picture(run: Path, tmp_path: Path) -> None:
    sample(str(run), "--class", "3", "-n", "4", "--grid", "--out", str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid.png", "grid.svg"]


def test_the_same_seed_draws_the_same_files_and_another_one_others(run: Path, tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        sample(str(run), "--class", "0", "-n", "1", "--seed", seed, "--out", str(tmp_path / name))
    pixels = [(tmp_path / name / "00000-0-0.png").read_bytes() for name in "abc"]
    assert pixels[0] == pixels[1] != pixels[2]


@pytest.mark.parametrize("weights", ["raw", "ema"])
@pytest.mark.parametrize("checkpoint", ["last", "best"])
def test_other_weights_of_the_run_can_be_drawn_from(weights: str, checkpoint: str, run: Path, tmp_path: Path) -> None:
    arguments = ["--class", "1", "-n", "1", "--weights", weights, "--checkpoint", checkpoint]
    assert "1 images in 1 file" in sample(str(run), *arguments, "--out", str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--class", "cat"], "There is no class 'cat'. The model knows: 0, 1, 2"),
        (["--class", "1", "--sampler", "magic"], "--sampler. must be dpm-solver"),
        (["--class", "1", "--steps", "2000"], "between 1 and 1000, got 2000"),
        (["--class", "1", "--weights", "node-ema"], "The weights must be one of exported, ema, raw, got 'node-ema'"),
        (["--class", "1", "--weights", "raw", "--checkpoint", "first"], "The checkpoint must be last or best"),
        (["--class", "1", "--checkpoint", "best"], "Choose the weights raw, ema or node-ema"),
        (["--class", "99"], "The model knows: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9.$"),
    ],
)
def test_bad_wishes_are_refused_before_anything_is_written(
    run: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        sample(str(run), *arguments, "--out", str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_folder_without_a_finished_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no finished diffusion model"):
        sample(str(tmp_path), "--out", str(tmp_path / "x"))
    with pytest.raises(RunFolderError, match="no such folder"):
        sample(str(tmp_path / "nowhere"), "--out", str(tmp_path / "x"))


def test_a_quarantined_model_is_drawn_from_with_the_flag_only(run: Path, tmp_path: Path) -> None:
    aside = tmp_path / "run"
    model = Path(shutil.copytree(run, aside)) / "diffusion" / "model"
    model.rename(model.with_name(QUARANTINED))
    (aside / "diffusion" / QUARANTINED / MARK).write_text('{"reason": "it knows them"}')
    arguments = [str(aside), "--class", "1", "-n", "1", "--out", str(tmp_path / "new")]
    with pytest.raises(QuarantineError, match=r"is quarantined: it knows them\. .* --quarantined"):
        sample(*arguments)
    assert not (tmp_path / "new").exists()
    with pytest.raises(QuarantineError):
        sample(*arguments, "--weights", "raw")
    write_manifest(aside / "diffusion" / QUARANTINED)
    assert "1 images in 1 file" in (output := sample(*arguments, "--quarantined"))
    assert "may be copies of training images. Do not pass them on" in output
    assert "copies" not in sample(str(run), *arguments[1:])


def test_images_that_cannot_be_written_are_one_clear_error(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunFolderError, match=r"cannot be written to .*: Not a directory\."):
        sample(str(run), "--class", "1", "-n", "1", "--out", str(tmp_path / "file" / "inside"))


@pytest.mark.parametrize("name", ["file", "grid.png"])
def test_out_must_name_a_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OptionError, match="--out must name a folder"):
        sample("some-run", "--grid", "--out", str(tmp_path / name))
    assert not (tmp_path / "grid.png").exists()
