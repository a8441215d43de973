"""The command that deletes decoded images."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fl_app.cli.app import app
from fl_app.data.image_cache import FOLDER


def test_the_cache_of_a_node_is_deleted(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "x.safetensors").write_bytes(bytes(2_000_000))
    (tmp_path / "run").mkdir()
    result = CliRunner().invoke(app, ["cache", "clear", "--state-dir", str(tmp_path)])
    assert result.exit_code == 0 and "2.0 MB of decoded images deleted" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_without_a_folder_the_default_of_a_node_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "fl-app" / "state" / FOLDER).mkdir(parents=True)
    result = CliRunner().invoke(app, ["cache", "clear"])
    assert result.exit_code == 0 and not (tmp_path / "fl-app" / "state" / FOLDER).exists()
