"""The services of compose.yaml, started by their own commands, train through TLS and node keys to the end."""

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.docker.compose_file import DOCKER, read_compose
from tests.docker.processes.federation import Federation, brought_up
from tests.docker.processes.launchers import Checkout, Image, Launcher

_HOSPITALS = ("east", "north", "south")
_LEARNED = ("completed", "degraded")  # a busy machine may lose a hospital for a round
_DEMO_SECONDS = 540.0
_RECIPE = """
tasks = "diffusion"
data.source = "digits"
federation.min-nodes = 3
diffusion.num-rounds = 2
diffusion.epochs = 2.0
diffusion.block-channels = "8,16"
diffusion.ema-horizon = 0.0
sampling.num-steps = 5
sampling.images-per-class = 1
"""


@pytest.fixture(scope="module", params=["checkout", "image"])
def federation(request: pytest.FixtureRequest) -> Iterator[Federation]:
    """Bring compose.yaml up, from the checkout or from the image."""
    with compose_up("compose.yaml", unpacked_image() if request.param == "image" else None) as found:
        yield found


@pytest.fixture(scope="module")
def demo(federation: Federation) -> tuple[int, dict[str, Any]]:
    """Run the demo: its exit status, and status.json."""
    return run_demo(federation)


@contextmanager
def compose_up(name: str, image: Path | None) -> Iterator[Federation]:
    home = Path(tempfile.mkdtemp(prefix="fl-app-docker-"))
    home.chmod(0o755)  # the image's user goes through it
    launcher: Launcher = Checkout(home) if image is None else Image(image, home)
    (launcher.folder("./runs") / "tiny.toml").write_text(_RECIPE, encoding="utf-8")
    services = read_compose(DOCKER / name, {"RECIPE": "/runs/tiny.toml"})
    with brought_up(services, launcher, home) as found:
        yield found


def run_demo(federation: Federation) -> tuple[int, dict[str, Any]]:
    exit_status = federation.run("demo", _DEMO_SECONDS)
    runs = federation.launcher.folder("./runs")
    found = sorted(runs.glob("tiny-*/status.json"))
    assert len(found) == 1, everything(federation)
    return exit_status, json.loads(found[0].read_text(encoding="utf-8"))


def unpacked_image() -> Path:
    """Return the root folder of the image that docker/build-without-engine.sh built."""
    root = os.environ.get("FL_APP_IMAGE_ROOT")
    if not root:
        pytest.skip("FL_APP_IMAGE_ROOT names no unpacked image: docker/build-without-engine.sh makes one")
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("to start processes from an image's files takes root, and util-linux's unshare")
    return Path(root)


def everything(federation: Federation) -> str:
    return "\n".join(f"--- {name}\n{federation.log(name)}" for name in federation.processes)


def test_the_demo_completes_with_all_three_hospitals(demo: tuple[int, dict[str, Any]], federation: Federation) -> None:
    exit_status, status = demo
    assert status["state"] in _LEARNED and exit_status == 0, everything(federation)
    assert sorted(site for site, node in status["nodes"].items() if node["contributed"]) == list(_HOSPITALS)


def test_the_results_land_in_runs(demo: tuple[int, dict[str, Any]], federation: Federation) -> None:
    (folder,) = federation.launcher.folder("./runs").glob("tiny-*")
    assert list((folder / "diffusion" / "model").rglob("*.safetensors"))
    assert federation.log("demo").endswith(f"\nrun folder: {folder.name}\n")


def test_the_hospitals_keep_what_is_theirs(demo: tuple[int, dict[str, Any]], federation: Federation) -> None:
    for site in _HOSPITALS:
        assert list(federation.launcher.folder(f"{site}-state").rglob("*.safetensors")), site
        key = federation.launcher.folder(f"{site}-secrets") / f"{site}.key"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    public = {path.name for path in federation.launcher.folder("from-hospitals").iterdir()}
    assert public == {f"{site}.pub" for site in _HOSPITALS}


def test_what_is_made_once_stays_as_it_is(federation: Federation) -> None:
    volumes = ("authority", "superlink-secrets", "from-coordinator", "north-secrets", "from-hospitals", "north-images")
    folders = [federation.launcher.folder(name) for name in volumes]
    before = {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}
    for job in ("init", "north-init", "register"):
        assert federation.run(job, 120) == 0, federation.log(job)
    after = {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}
    assert after == before
    assert federation.log("register").count("is registered already") == 3


def test_the_insecure_file_completes_too() -> None:
    with compose_up("compose.insecure.yaml", None) as federation:
        exit_status, status = run_demo(federation)
        assert status["state"] in _LEARNED and exit_status == 0, everything(federation)
        assert sorted(status["nodes"]) == list(_HOSPITALS)
