"""Which folder is the Flower app."""

from pathlib import Path

import pytest

from fl_app.errors import OptionError, RunFolderError
from fl_app.options import app_files
from fl_app.options.app_files import own_app
from fl_app.simulation.app import find_app, write_app
from tests.cli.fakes import make_fake_app

ROOT = Path(__file__).parents[2]


def test_the_app_is_the_current_folder_if_it_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(app := make_fake_app(tmp_path / "app", "raise"))
    assert find_app() == app


def test_elsewhere_the_app_is_the_checkout_if_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_app() == own_app() == ROOT


def test_without_a_checkout_the_app_is_the_packages_own_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = make_fake_app(tmp_path / "fl_app", "raise")
    monkeypatch.setattr(app_files, "PACKAGE", package)
    monkeypatch.setattr(app_files, "PACKAGED", make_fake_app(package / "app", "raise"))
    monkeypatch.chdir(tmp_path)
    assert find_app() == package / "app"


def test_a_folder_that_is_no_app_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="No Flower app in"):
        find_app(tmp_path)


def test_an_app_is_not_written_over_a_folder(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="Name a folder that does not exist yet"):
        write_app(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_written_app_holds_code_options_and_recipes(tmp_path: Path) -> None:
    write_app(tmp_path / "app")
    names = {path.name for path in (tmp_path / "app").iterdir()}
    assert names == {"pyproject.toml", "server_app.py", "client_app.py", "LICENSE", "recipes", "fl_app"}
