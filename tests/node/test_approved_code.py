"""A node executes approved code only: anything else is refused before it is stored, and the run is told."""

import hashlib
import importlib
import io
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import Message, RecordDict
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supernode.nodestate import NodeStateFactory

from fl_app.errors import FlAppError
from fl_app.flower import ErrorCode, ReceivedBundle, Run, build_bundle, check_bundles, name_message
from fl_app.logs import clean_text
from fl_app.node.approved_code import fault_of

PROJECT = """
[project]
name = "app"
version = "1.0"

[tool.flwr.app]
publisher = "us"

[tool.flwr.app.components]
serverapp = "server_app:app"
clientapp = "client_app:app"

[tool.flwr.app.config]
seed = 0
"""


def make_bundle(code: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("pyproject.toml"), PROJECT)
        archive.writestr(zipfile.ZipInfo("client_app.py"), code)
    return buffer.getvalue()


GOOD, BAD = make_bundle("app = 1"), make_bundle("app = 2")


def make_flowers_bundle() -> bytes:
    """Make a bundle as Flower does, with the list of its files."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("pyproject.toml", PROJECT), ("client_app.py", "app = 1"), ("server_app.py", "app = 1")):
            (Path(folder) / name).write_text(text)
        return build_bundle(Path(folder))


FLOWERS = make_flowers_bundle()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def received(content: bytes, claimed: str = "", name: str = "us/app", version: str = "1.0") -> ReceivedBundle:
    return ReceivedBundle(content, (claimed or sha256(content),) * 2, (name, version))


def test_approved_code_has_no_fault() -> None:
    assert fault_of(received(GOOD), [sha256(BAD), sha256(GOOD)]) is None


def test_the_hash_is_that_of_what_came_and_not_the_stated_one() -> None:
    fault = fault_of(received(BAD, claimed=sha256(GOOD)), [sha256(GOOD)])
    assert fault is not None and f"found SHA-256 {sha256(BAD)[:12]}…, approved {sha256(GOOD)[:12]}…." in fault


@pytest.mark.parametrize(
    "bundle",
    [
        received(GOOD, claimed=sha256(BAD)),
        ReceivedBundle(GOOD, (sha256(GOOD), sha256(BAD)), ("us/app", "1.0")),
        received(GOOD, name="us/other"),
        received(GOOD, version="1.0.abcd/../another"),
    ],
)
def test_approved_code_under_another_name_is_refused_since_flower_would_start_other_code(
    bundle: ReceivedBundle,
) -> None:
    assert "under another name" in str(fault_of(bundle, [sha256(GOOD)]))


def unpacked(bundle: bytes) -> Path:
    """Let Flower unpack a bundle as its executor does; return the folder whose code it then starts."""
    fab = importlib.import_module("flwr.cli.install")
    return Path(fab.install_from_fab(bundle, skip_prompt=True))


def strange(folder: Path) -> None:
    (folder / "client_app.py").write_text("app = 2")


def more(folder: Path) -> None:
    (folder / "torch.py").write_text("app = 2")


def compiled(folder: Path) -> None:
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "client_app.cpython-311.pyc").write_bytes(b"app = 2")


def cut_off(folder: Path) -> None:
    (folder / "client_app.py").unlink()


def linked(folder: Path) -> None:
    other = folder.with_name("other")
    folder.rename(other)
    strange(other)
    folder.symlink_to(other)


@pytest.mark.parametrize("change", [strange, more, compiled, cut_off, linked])
def test_other_code_in_the_folder_of_approved_code_is_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    folder = unpacked(FLOWERS)
    change(folder)
    assert unpacked(FLOWERS) == folder, "Flower takes what lies there"
    assert fault_of(received(FLOWERS), [sha256(FLOWERS)]) is None
    assert unpacked(FLOWERS) == folder and not folder.is_symlink()
    found = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*")}
    assert found["client_app.py"] == "app = 1"
    assert found.keys() == {"pyproject.toml", "client_app.py", "server_app.py"}


def test_approved_code_that_is_unpacked_already_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    before = (unpacked(FLOWERS) / "client_app.py").stat().st_ino
    assert fault_of(received(FLOWERS), [sha256(FLOWERS)]) is None
    assert (unpacked(FLOWERS) / "client_app.py").stat().st_ino == before


def test_the_run_is_told_if_other_code_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    strange(unpacked(FLOWERS))

    def fail(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("fl_app.node.approved_code.shutil.rmtree", fail)
    fault = str(fault_of(received(FLOWERS), [sha256(FLOWERS)]))
    assert "other code lies where this node unpacks approved code" in fault and str(tmp_path) not in fault
    assert clean_text(fault) == fault


def test_the_whole_reason_reaches_the_record_of_a_round() -> None:
    for number in (1, 2, 3):
        fault = str(fault_of(received(BAD), [sha256(GOOD)] * number))
        assert clean_text(fault) == fault


class Link:
    """What Flower's SuperNode needs of a SuperLink: it hands out one message of a run and the run's bundle."""

    def __init__(self, run_id: int, bundle: bytes, claimed: str = "") -> None:
        self.message = Message(RecordDict(), dst_node_id=1, message_type="train")
        self.message.metadata.__dict__["_run_id"] = run_id
        name_message(self.message, self.message.object_id)
        self.bundle, self.claimed = bundle, claimed or sha256(bundle)

    def receive(self) -> tuple[Message, Any]:
        return self.message, get_object_tree(self.message)

    def get_run(self, run_id: int) -> Run:
        run = Run.create_empty(run_id)
        run.fab_id, run.fab_version, run.fab_hash, run.series_id = "us/app", "1.0", self.claimed, run_id
        return run

    def get_fab(self, fab_hash: str, run_id: int) -> Fab:
        return Fab(self.claimed, self.bundle, {})

    def pull_object(self, run_id: int, object_id: str) -> bytes:
        return get_all_nested_objects(self.message)[object_id].deflate()


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Flower's own state of a SuperNode that approves GOOD, and its function that receives a message."""
    loop = importlib.import_module("flwr.supernode.start_client_internal")
    monkeypatch.setattr(loop, "_pull_and_store_message", loop._pull_and_store_message)  # undone after the test
    check_bundles(lambda bundle: fault_of(bundle, [sha256(GOOD)]))
    objects = ObjectStoreFactory()
    state = NodeStateFactory(objectstore_factory=objects).state()
    state.set_node_id(1)

    def take(link: Link) -> int | None:
        found: int | None = loop._pull_and_store_message(
            state=state,
            object_store=objects.store(),
            node_config={},
            receive=link.receive,
            get_run=link.get_run,
            get_fab=link.get_fab,
            pull_object=link.pull_object,
            confirm_message_received=lambda run_id, message_id: None,
            trusted_entities=None,
        )
        return found

    return SimpleNamespace(state=state, take=take)


@pytest.mark.parametrize("claimed", ["", sha256(GOOD)])
def test_of_a_refused_bundle_nothing_is_stored_or_started_and_the_run_gets_the_reason(node: Any, claimed: str) -> None:
    assert node.take(Link(7, BAD, claimed)) == 7
    assert node.state.get_fab(sha256(BAD)) is None and node.state.get_run(7) is None
    assert list(node.state.get_tasks()) == []
    assert list(node.state.get_messages_legacy(is_reply=False)) == []
    (reply,) = node.state.get_messages_legacy(is_reply=True)
    assert reply.error.code == ErrorCode.INVALID_FAB
    assert reply.error.reason.startswith("this node executes approved code only: found SHA-256 ")


def test_a_node_that_refused_a_run_goes_on_with_an_approved_one(node: Any) -> None:
    node.take(Link(7, BAD))
    assert node.take(Link(8, GOOD)) == 8
    assert node.state.get_fab(sha256(GOOD)).content == GOOD
    assert [task.run_id for task in node.state.get_tasks()] == [8]
    assert node.take(Link(7, BAD)) == 7, "a refused run stays unknown, so its code is refused again"
    assert [task.run_id for task in node.state.get_tasks()] == [8]


def test_a_flower_that_receives_bundles_in_another_way_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = importlib.import_module("flwr.supernode.start_client_internal")
    for name, other in (("_pull_and_store_message", lambda: None), ("start_client_internal", lambda: None)):
        with monkeypatch.context() as patch:
            patch.setattr(loop, name, other)
            with pytest.raises(FlAppError, match="The code of runs cannot be checked with flwr"):
                check_bundles(lambda bundle: None)
