"""Folders that only their owner can open, and a node that writes into no other."""

import os
import stat
from pathlib import Path

import pytest
from flwr.app import Context, Message, RecordDict

from fl_app.data.sources import dataset_info
from fl_app.files import make_private
from fl_app.flower import TaskIdentity
from fl_app.messages.arrays import pack, to_numpy
from fl_app.messages.records import CONFIG, TRAIN, WEIGHTS, instruction_config
from fl_app.node import client
from fl_app.node.sent import LOG
from fl_app.options.sections import OptionValue
from fl_app.runs.opening import open_run
from fl_app.tasks import build_task, initial_weights
from tests.data.conftest import write_images
from tests.options import NO_MINIMUMS
from tests.tiny import tiny_run


def mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


def train_as_hospital(tmp_path: Path, task: str, run_name: str = "run") -> Message:
    """Let a hospital's node answer a training message about `task`, whose weights are those of the classifier."""
    images = write_images(tmp_path / "images", {"a": 4, "b": 4})
    options: dict[str, OptionValue] = {
        "data.source": "folder", "data.class-names": "a,b", "data.num-channels": 1, "data.image-size": 8
    }  # fmt: skip
    options |= {"tasks": "classification", "classification.keep-optimizer-state": True}
    config = tiny_run(tmp_path, options)
    weights = to_numpy(initial_weights(build_task("classification", config, dataset_info(config.data)), 0))
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1  # as Flower does
    node: dict[str, bool | float | int | str] = {
        **NO_MINIMUMS,
        "data-path": str(images),
        "site": "north",
        "state-dir": str(tmp_path / "state"),
    }
    content = RecordDict({CONFIG: instruction_config(task, 1, run_name, str(tmp_path)), WEIGHTS: pack(weights)})
    context = Context(1, 1, node, RecordDict(), dict(config.to_flat()))
    return client.train(Message(content, dst_node_id=1, message_type=TRAIN), context)


def test_a_new_folder_is_closed_to_other_users_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert mode(tmp_path / "a" / "b") == 0o700


def test_an_open_folder_of_ones_own_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_private(tmp_path)
    assert mode(tmp_path) == 0o700


def test_a_folder_for_everybody_stays_open_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o1777)
    make_private(tmp_path)
    assert mode(tmp_path) == 0o1777
    assert "Other users of this machine may be able to open" in caplog.text


def test_a_run_folder_is_closed_to_other_users(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    folder = open_run(tiny_run(tmp_path), 1)
    folder.unlock()
    assert mode(folder.path) == 0o700


def test_what_a_node_keeps_is_closed_to_other_users(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    assert not train_as_hospital(tmp_path, "classification").has_error()
    assert mode(tmp_path / "state") == 0o700
    assert (tmp_path / "state/run/north/classification/state-0001.safetensors").is_file()


@pytest.mark.parametrize("task", ["classification-/../../../../escaped", "classification-x", "painting", "..", ""])
def test_a_task_that_the_run_does_not_have_is_refused_and_only_noted(tmp_path: Path, task: str) -> None:
    stranger = tmp_path / "escaped" / "state-0001.safetensors"
    stranger.parent.mkdir()
    stranger.write_text("of somebody else")
    reply = train_as_hospital(tmp_path, task)
    assert "The task must be one of this run's, classification, got " in str(reply.error.reason)
    assert stranger.read_text() == "of somebody else" and list(stranger.parent.iterdir()) == [stranger]
    assert [path.name for path in (tmp_path / "state").iterdir()] == [LOG]


@pytest.mark.parametrize("run_name", ["..", "../../escaped", "/escaped"])
def test_a_name_of_a_run_that_leaves_the_state_folder_is_refused(tmp_path: Path, run_name: str) -> None:
    reply = train_as_hospital(tmp_path, "classification", run_name)
    assert "The run's name must consist of" in str(reply.error.reason)
    assert not (tmp_path / "escaped").exists()
