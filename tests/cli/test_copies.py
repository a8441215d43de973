"""`fl-app copies`: what a node found, said without control characters, and wrong input."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from fl_app.cli.app import app
from fl_app.errors import OptionError, RunFolderError
from fl_app.runs.copies import COPIES, Found, Pair, files_of_run, read_copies, write_copies

PAIR = Pair(space="pixels", ratio=0.12, drawn=4, drawn_class="cat", trained=7, trained_class="ca\u001b[2Jt")


def run_folder(tmp_path: Path, *pairs: Pair, size: int = 8) -> Path:
    """Return a simulation's run folder with one site."""
    run = tmp_path / "run"
    run.mkdir(exist_ok=True)
    (run / "run.json").write_text("{}")
    counts = {"pixels": [200, len(pairs), 30, 1], "unet": [0, 0, 0, 0]}
    found = Found(run="run", site="site-0", round=3, num_drawn=200, num_train=90, counts=counts, pairs=pairs)
    images = torch.arange(len(pairs) * size * size, dtype=torch.uint8).reshape(len(pairs), 1, size, size)
    write_copies(run / COPIES / "site-0.safetensors", found, images, images.flip(-1))
    return run


def show(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["copies", *map(str, arguments)])


def test_what_is_written_is_read_and_closed_to_others(tmp_path: Path) -> None:
    (path,) = files_of_run(run_folder(tmp_path, PAIR, PAIR))
    found, drawn, trained = read_copies(path)
    assert found.pairs == (PAIR, PAIR) and torch.equal(drawn, trained.flip(-1))
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_table_shows_each_pair_and_commands_no_terminal(tmp_path: Path) -> None:
    result = show(run_folder(tmp_path, PAIR))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("run, site-0, round 3, 90 training images: by pixels 1 of 200 generated images are near")
    assert lines[1].split() == ["run", "site", "features", "ratio", "drawn", "as", "training", "image", "class"]
    assert lines[2].split()[:6] == ["run", "site-0", "pixels", "0.120", "4", "cat"]
    assert "\u001b" not in result.stdout and "unet" not in result.stdout


def test_no_near_copies_are_no_error(tmp_path: Path) -> None:
    result = show(run_folder(tmp_path), "--picture", tmp_path / "pairs.png")
    assert result.exit_code == 0 and "0 of 200 generated images are near copies" in result.stdout
    assert not (tmp_path / "pairs.png").exists()


def test_json_holds_the_same(tmp_path: Path) -> None:
    found = json.loads(show(run_folder(tmp_path, PAIR), "--json").stdout)
    assert found["searched"] == [
        {
            "run": "run", "site": "site-0", "round": 3, "num-drawn": 200, "num-train": 90,
            "counts": {"pixels": [200, 1, 30, 1], "unet": [0, 0, 0, 0]},
        }
    ]  # fmt: skip
    assert found["copies"][0]["ratio"] == 0.12 and found["copies"][0]["file"] is None


@pytest.mark.parametrize("name", ["pairs.jpg", "missing/pairs.png"])
def test_a_picture_that_cannot_be_is_an_error_before_anything(tmp_path: Path, name: str) -> None:
    result = show(run_folder(tmp_path, PAIR), "--picture", tmp_path / name)
    assert isinstance(result.exception, OptionError) and "--picture" in str(result.exception)


def test_wrong_input_is_told(tmp_path: Path) -> None:
    run = run_folder(tmp_path, PAIR)
    both = show("--state-dir", tmp_path, "--node-config", 'data-path="/x" site="y"')
    assert isinstance(both.exception, OptionError) and "give one of them" in str(both.exception)
    missing = show("--state-dir", tmp_path / "none")
    assert isinstance(missing.exception, OptionError) and "There is no folder" in str(missing.exception)
    (path,) = files_of_run(run)
    for content in (b"", path.read_bytes()[:-40], b"no safetensors" * 9):
        path.write_bytes(content)
        damaged = show(run)
        assert isinstance(damaged.exception, RunFolderError) and "is damaged" in str(damaged.exception)
    path.unlink()
    empty = show(run)
    assert isinstance(empty.exception, RunFolderError) and "holds no search for copies" in str(empty.exception)
