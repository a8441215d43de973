"""A node that starts with more broken files than its runs accept says so at once, and does not read for hours."""

from pathlib import Path

import pytest
from PIL import Image

from fl_app.cli import node_images
from fl_app.cli.node_images import check_images
from fl_app.options.node import NodeConfig


def folder_of(tmp_path: Path, num_files: int, num_broken: int) -> NodeConfig:
    """Make a folder whose first files are broken."""
    (tmp_path / "one").mkdir()
    for number in range(num_files):
        path = tmp_path / f"one/{number:03}.png"
        if number < num_broken:
            path.write_bytes(b"no image")
        else:
            Image.new("L", (4, 4), number).save(path)
    return NodeConfig.from_flat({"data-path": str(tmp_path), "site": "north"})


def test_more_broken_files_than_a_run_accepts_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_images, "SAMPLING_SECONDS", 600.0)
    check_images(folder_of(tmp_path, num_files=40, num_broken=3))
    (line,) = capsys.readouterr().err.splitlines()
    assert f"of 40 labelled files in {tmp_path}, 3 cannot be read" in line
    assert "more than 5.0% of all ('max-unreadable-share')" in line and "`fl-app doctor`" in line


def test_as_many_broken_files_as_a_run_accepts_are_not_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_images, "SAMPLING_SECONDS", 600.0)
    check_images(folder_of(tmp_path, num_files=40, num_broken=2))
    assert capsys.readouterr().err == ""


def test_a_large_folder_is_judged_by_the_files_that_were_read_in_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_images, "SAMPLING_SECONDS", 0.0)
    check_images(folder_of(tmp_path, num_files=40, num_broken=39))  # until one is an image
    (line,) = capsys.readouterr().err.splitlines()
    assert "labelled files drawn from the 40 in" in line
