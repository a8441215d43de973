"""What Flower sends to the nodes: the app's code, and nothing else that lies in the checkout."""

import io
import shutil
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

ROOT = Path(__file__).parents[1]
_PARTS = ("fl_app", "tests", "recipes", "pyproject.toml", ".gitignore", "server_app.py", "client_app.py", "LICENSE")


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    checkout = tmp_path_factory.mktemp("bundle") / "checkout"
    for name in _PARTS:
        source, target = ROOT / name, checkout / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    for planted in ("data/patients.json", "runs/one/run.json", "notes.md", "secrets.toml", "fl_app/left.json"):
        (checkout / planted).parent.mkdir(parents=True, exist_ok=True)
        (checkout / planted).write_text("{}")
    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(checkout))) as bundle:
        return set(bundle.namelist())


def test_the_bundle_holds_the_app_and_nothing_else(bundled: set[str]) -> None:
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "fl_app").rglob("*.py")}
    expected = code | {"server_app.py", "client_app.py", "pyproject.toml", "LICENSE", ".info/CONTENT"}
    assert bundled == expected


def test_no_module_of_the_app_is_lost_by_an_ignored_name(bundled: set[str]) -> None:
    assert {"fl_app/options/run.py", "fl_app/data/images.py", "fl_app/runs/folder.py", "fl_app/cli/run.py"} <= bundled
