"""What every test starts from: one torch thread, and no Flower service outside the test."""

import hashlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from PIL import Image

from fl_app.flower import TaskIdentity
from fl_app.node import split

torch.set_num_threads(1)
settings.register_profile("shared-machine", deadline=None)  # a busy machine is no failure
settings.load_profile("shared-machine")
# Caches of Matplotlib and uv stay where they are; what nodes and runs leave in the home folder goes elsewhere.
os.environ.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))
os.environ.update(
    FLWR_TELEMETRY_ENABLED="0",
    FLWR_DISABLE_UPDATE_CHECK="1",
    FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION="1",
)


# Their tests start Ray, which needs a machine for itself: one after the other, first of all, beside the other files.
RAY = (
    "tests/simulation/test_real_grid.py",
    "tests/simulation/test_real_run.py",
    "tests/test_package.py",
    "tests/test_real_run.py",
)


def find_lane(nodeid: str) -> str:
    """Return what a test has in common with those that run in the same process, one after the other.

    That is its file, whose fixtures are then made once; `tests/api` has one run for all its files.
    """
    file = nodeid.partition("::")[0]
    return "ray" if file in RAY else "api" if file.startswith("tests/api/") else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: find_lane(item.nodeid) != "ray")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share lanes out to processes in the order of collection (xdist_group does nothing with pytest 9.2)."""
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = find_lane
    return scheduler


@pytest.fixture(autouse=True, scope="session")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _disk() -> Iterator[None]:
    """Wait for no disk: a small federation does so 65 times, and no power cut comes in the middle of a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def drawn() -> None:
    """Asks for real pictures in a file whose other tests do without."""


@pytest.fixture
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set figures up but render none, a third of a tiny federation's time: for tests that look at no picture."""

    def save_dot(_figure: object, path: Path, **_options: object) -> None:
        Image.new("L", (1, 1)).save(path, format="png")

    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", save_dot)


@pytest.fixture(autouse=True)
def _task_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the run and the node, as Flower's own processes do before an app is called."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture(autouse=True)
def _split_keys(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hospitals of a test split their images the same way each time: a secret key would make it a draw."""
    numbers = itertools.count()

    def new_key() -> bytes:
        return hashlib.sha256(f"{request.node.nodeid} {next(numbers)}".encode()).digest()

    monkeypatch.setattr(split, "new_key", new_key)
