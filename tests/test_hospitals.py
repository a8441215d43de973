"""Hospitals with folders of their own, through the real server and the real nodes."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from PIL import Image

from fl_app.data.images import DatasetInfo
from fl_app.errors import FederationError, OptionError
from fl_app.messages.contents import contents_of
from fl_app.node.images import LocalData, load_local
from fl_app.node.sent import verify
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue
from fl_app.runs.folder import RunFolder
from fl_app.runs.opening import agreed_info, note_agreement
from tests.data.conftest import write_images
from tests.data.dicoms import CANARY, write_dicom
from tests.federation import LocalGrid, run_federation
from tests.node.test_counting import most_queries
from tests.options import NO_MINIMUMS
from tests.tiny import tiny_run

pytestmark = pytest.mark.usefixtures("undrawn")

OPEN: dict[str, OptionValue] = {
    "tasks": "classification", "data.source": "folder", "data.image-size": 8, "data.limit": 0,
    "classification.num-rounds": 1, "classification.head": "linear",
}  # fmt: skip
STATED: dict[str, OptionValue] = {**OPEN, "data.class-names": "a,b", "data.num-channels": 1}


def hospitals(tmp_path: Path, *names: str, **options: Any) -> dict[int, dict[str, Any]]:
    """Return node options of hospitals whose folders bear their names."""
    named = {name.replace("_", "-"): value for name, value in options.items()}
    return {
        number: {
            **NO_MINIMUMS,
            "data-path": str(tmp_path / name),
            "site": name,
            "state-dir": str(tmp_path / "state"),
            **named,
        }
        for number, name in enumerate(names)
    }


def federate(tmp_path: Path, options: dict[str, OptionValue], nodes: dict[int, dict[str, Any]]) -> LocalGrid:
    return run_federation(tiny_run(tmp_path / "runs", options), len(nodes), node_options=nodes)


def read(tmp_path: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "runs" / "run" / name).read_text())
    return found


def write_learnable(folder: Path, names: tuple[str, ...] = ("a", "b")) -> Path:
    """Write images whose class is their brightness."""
    generator = np.random.default_rng(len(folder.name))
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for image in range(12):
            pixels = generator.integers(200 * number, 200 * number + 50, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{image}.png")
    return folder


@pytest.mark.parametrize("stated", ["a", ""])
def test_hospitals_with_one_class_train_no_classifier(stated: str, tmp_path: Path) -> None:
    for name in ("north", "south"):
        write_learnable(tmp_path / name, ("a",))
    nodes = hospitals(tmp_path, "north", "south", tell_class_names=True)
    with pytest.raises(OptionError, match=r"needs at least two classes, found one: a\."):
        federate(tmp_path, {**OPEN, "data.class-names": stated}, nodes)


def test_hospitals_agree_on_what_the_options_leave_open(tmp_path: Path) -> None:
    for name in ("north", "south"):
        write_learnable(tmp_path / name)
    federate(tmp_path, OPEN, hospitals(tmp_path, "north", "south", tell_class_names=True))
    agreed = {"class-names": ["a", "b"], "num-channels": 1, "image-size": 8}
    assert read(tmp_path, "run.json")["agreed"] == agreed
    assert read(tmp_path, "status.json")["state"] == "completed"


def test_a_disagreement_stops_the_run_before_training_and_names_site_and_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "north", {"benign": 3, "malignant": 3})
    write_images(tmp_path / "west", {"benign": 3, "malignent": 3}, mode="RGB")
    sent: list[str] = []
    monkeypatch.setattr(LocalGrid, "push_messages", recorder(sent))
    with pytest.raises(FederationError, match="'west' has other classes than the run: missing malignant, extra"):
        federate(tmp_path, OPEN, hospitals(tmp_path, "north", "west", tell_class_names=True))
    assert set(sent) == {"query.describe"}
    assert "other channels than the run: found 3, expected 1" in read(tmp_path, "status.json")["reason"]


def test_one_site_that_differs_is_left_out_where_enough_agree(tmp_path: Path) -> None:
    for name in ("north", "south"):
        write_learnable(tmp_path / name)
    write_learnable(tmp_path / "west", ("a", "c"))
    federate(tmp_path, OPEN, hospitals(tmp_path, "north", "south", "west", tell_class_names=True))
    assert read(tmp_path, "run.json")["agreed"]["class-names"] == ["a", "b"]
    found = read(tmp_path, "status.json")
    assert found["state"] == "degraded"
    assert "Site 'west' has other classes than the run: missing b, extra c" in found["nodes"]["node-1002"]["reasons"][0]


def test_a_site_that_joins_later_and_differs_is_refused_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("north", "south"):
        write_learnable(tmp_path / name)
    write_learnable(tmp_path / "west", ("a", "c"))
    real = LocalGrid.get_node_ids

    def all_but_west_at_first(self: LocalGrid) -> list[int]:
        has_begun = any(message.metadata.message_type == "train" for message in self.sent)
        return [node for node in real(self) if node != 1002 or has_begun]

    monkeypatch.setattr(LocalGrid, "get_node_ids", all_but_west_at_first)
    nodes = hospitals(tmp_path, "north", "south", "west", tell_class_names=True)
    federate(tmp_path, {**OPEN, "classification.num-rounds": 2}, nodes)
    counts = read(tmp_path, "status.json")["nodes"]
    assert {site: node["contributed"] for site, node in counts.items()} == {"north": 2, "south": 2, "node-1002": 0}
    assert "Site 'west' has other classes than the run: missing b, extra c" in counts["node-1002"]["reasons"][0]


def recorder(sent: list[str]) -> Any:
    real = LocalGrid.push_messages

    def push(self: LocalGrid, messages: Any) -> Any:
        batch = list(messages)
        sent.extend(message.metadata.message_type for message in batch)
        return real(self, batch)

    return push


def test_names_of_folders_stay_at_a_hospital_that_has_not_allowed_to_tell_them(tmp_path: Path) -> None:
    for name in ("north", "south"):
        write_images(tmp_path / name, {"anna": 3, "bert": 3})
    with pytest.raises(FederationError, match="this hospital does not tell the names of its own") as caught:
        federate(tmp_path, OPEN, hospitals(tmp_path, "north", "south"))
    assert "anna" not in str(caught.value)


def test_a_resumed_run_keeps_the_agreement_that_it_began_with(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"options": {}, "run-name": "run", "nodes": {}}))
    assert agreed_info(folder) is None
    note_agreement(folder, DatasetInfo(("a", "b"), 1, 8))
    assert agreed_info(folder) == DatasetInfo(("a", "b"), 1, 8)


def test_files_that_cannot_be_read_are_told_as_a_number_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("north", "south"):
        write_learnable(tmp_path / name)
    (tmp_path / "south" / "a" / "secret.png").write_bytes(b"x")
    descriptions: list[Message] = []

    def keep(instruction: Message, reply: Message) -> Message:
        if instruction.metadata.message_type == "query.describe":
            descriptions.append(reply)
        return reply

    config = tiny_run(tmp_path / "runs", STATED)
    with caplog.at_level(logging.INFO, "fl_app"):
        run_federation(config, 2, node_options=hospitals(tmp_path, "north", "south"), meddle=keep)
    nodes = [reply.content.config_records["node"] for reply in descriptions]
    assert {node["site"]: node["unreadable-files"] for node in nodes} == {"north": 0, "south": 1}
    assert "Site south leaves out 1 files" in caplog.text
    assert "1 of 25 image files is missing or broken and left out" in caplog.text  # in the node's own log


def test_a_hospital_keeps_to_its_own_limits(tmp_path: Path) -> None:
    for name in ("north", "south"):
        write_learnable(tmp_path / name)
    nodes = hospitals(tmp_path, "north", "south")
    nodes[0]["max-queries-per-day"] = 2
    nodes[1]["max-rounds-per-day"] = 1
    federate(tmp_path, {**STATED, "classification.num-rounds": 3}, nodes)
    south = read(tmp_path, "status.json")["nodes"]["south"]
    assert (south["contributed"], south["failed"]) == (1, 2)
    assert "has trained 1 times today, and its option 'max-rounds-per-day' allows 1" in south["reasons"][0]
    north = read(tmp_path, "status.json")["nodes"]["north"]
    assert (north["contributed"], north["failed"]) == (
        3,
        2,
    )  # it sent its description and moments, and measured nothing
    assert "answered 2 messages that read its images today" in north["reasons"][0]
    assert read(tmp_path, "status.json")["state"] == "degraded"


def test_the_log_of_a_hospital_holds_every_reply_that_the_server_got_and_every_message_is_counted(
    tmp_path: Path,
) -> None:
    nodes = hospitals(tmp_path, "north", "south")
    for number, name in enumerate(("north", "south")):
        write_learnable(tmp_path / name)
        nodes[number]["state-dir"] = str(tmp_path / "state" / name)
    nodes[1]["max-rounds-per-day"] = 3  # so that south also sends an error
    got: dict[int, list[tuple[str, str, bool]]] = {}

    def keep(instruction: Message, reply: Message) -> Message:
        kind = instruction.metadata.message_type
        got.setdefault(reply.metadata.src_node_id - 1000, []).append(
            (kind, contents_of(reply).sha256, reply.has_error())
        )
        return reply

    more: dict[str, OptionValue] = {
        "classification.num-rounds": 2, "classification.prototype-rounds": "1",
        "late-joining": True,  # south does not see the first round of the last baseline
    }  # fmt: skip
    config = tiny_run(tmp_path / "runs", {**STATED, **more, "classification.baselines": "local,FedMedian"})
    run_federation(config, 2, node_options=nodes, meddle=keep)
    for number, name in enumerate(("north", "south")):
        found = verify(tmp_path / "state" / name)
        assert (found.problems, found.notes) == ([], [])
        assert [(line.sent.message, line.sent.sha256, line.sent.is_error) for line in found.lines] == got[number]
        num_queries = sum(kind != "train" for kind, _, _ in got[number])
        # nobody is asked to agree on classes that the run states; networks that stay at their nodes have no moments
        assert num_queries == most_queries(config) - 1 - 2
        counted = {
            path.suffix: path.stat().st_size for path in (tmp_path / "state" / name / f"counts@{name}").iterdir()
        }
        assert counted == {".queries": num_queries, ".rounds": 3 if name == "south" else 6}
    assert [error for _, _, error in got[1]].count(True) == 3 and not any(error for _, _, error in got[0])
    (first, *_) = [line.sent for line in found.lines if line.sent.message == "train"]
    assert (first.run, first.task, first.round) == ("run", "classification", 1)
    assert first.records["metrics"]["num-examples"] == "float" and first.bytes > 10_000
    assert not list((tmp_path / "runs").rglob("sent@*"))


def test_a_task_that_a_hospital_does_not_allow_is_refused_there_and_goes_on_elsewhere(tmp_path: Path) -> None:
    for name in ("north", "south"):
        write_learnable(tmp_path / name)
    nodes = hospitals(tmp_path, "north", "south")
    nodes[1]["tasks-allowed"] = "diffusion"
    federate(tmp_path, STATED, nodes)
    counts = read(tmp_path, "status.json")["nodes"]
    assert counts["north"]["contributed"] == 1 and counts["south"]["contributed"] == 0
    assert "does not take part in the task 'classification'" in counts["south"]["reasons"][0]


def test_no_patient_and_no_name_of_a_file_leaves_a_hospital(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for site in ("north", "south"):
        for number in range(12):
            label = "ab"[number % 2]
            pixels = generator.integers(number % 2 * 200, number % 2 * 200 + 50, (8, 8), dtype=np.uint8)
            tags: dict[str, Any] = {"WindowCenter": 128, "WindowWidth": 256, "PatientID": f"{CANARY}-{number // 4}"}
            write_dicom(tmp_path / site / label / f"CANARY-FILE-{number}.dcm", pixels, **tags)
    seen: list[str] = []

    def keep(instruction: Message, reply: Message) -> Message:
        seen.append(repr(reply))
        return reply

    nodes = hospitals(tmp_path, "north", "south")
    nodes[2] = nodes[1] | {"site": "broken", "data-path": str(tmp_path / "broken")}
    (write_images(tmp_path / "broken", {"a": 0}) / "a" / "CANARY-FILE-X.dcm").write_bytes(b"x")
    run_federation(tiny_run(tmp_path / "runs", STATED), 3, node_options=nodes, meddle=keep)
    written = [path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert seen and written
    assert not any("CANARY" in text for text in seen) and not any(b"CANARY" in content for content in written)
    assert "1 of 1 image files is missing or broken" in json.dumps(read(tmp_path, "status.json"))


def test_a_hospital_that_cannot_be_described_is_named_all_the_same(tmp_path: Path) -> None:
    for name in ("north", "south"):
        write_learnable(tmp_path / name)
    write_learnable(tmp_path / "west", ("a", "mistyped"))
    federate(tmp_path, STATED, hospitals(tmp_path, "north", "south", "west"))
    status = read(tmp_path, "status.json")
    (reasons,) = [node["reasons"] for site, node in status["nodes"].items() if site.startswith("node-")]
    assert {reason.split(": ", 1)[1] for reason in reasons} == {
        "west: the data folder holds a folder that is not a class of this run"
    }
    assert status["state"] == "degraded" and "mistyped" not in json.dumps(status)


def test_a_run_does_not_begin_with_fewer_fit_sites_than_the_coordinator_asked_for(tmp_path: Path) -> None:
    for name in ("north", "south"):
        write_learnable(tmp_path / name)
    nodes = hospitals(tmp_path, "north", "south", "west")  # all three are connected, and west has no folder
    with pytest.raises(FederationError, match=r"2 of 3 nodes can take part: north, south\. The others: west: the data"):
        federate(tmp_path, {**STATED, "federation.min-nodes": 3}, nodes)
    assert read(tmp_path, "status.json")["state"] == "failed"
    write_learnable(tmp_path / "west")
    federate(tmp_path, {**STATED, "federation.min-nodes": 3, "resume": str(tmp_path / "runs" / "run")}, nodes)
    assert read(tmp_path, "status.json")["state"] == "completed"


class PanicException(BaseException):
    """What PyO3 raises where Rust panics."""


PanicException.__module__ = "pyo3_runtime"


def test_a_panic_of_a_rust_extension_is_an_error_reply_that_names_the_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("north", "south", "west"):
        write_learnable(tmp_path / name)

    def load(config: RunConfig, node: NodeConfig) -> LocalData:
        if node.site == "north":
            raise PanicException("patient-7")
        return load_local(config, node)

    monkeypatch.setattr("fl_app.node.answering.load_local", load)
    federate(tmp_path, STATED, hospitals(tmp_path, "north", "south", "west"))
    status = (tmp_path / "runs" / "run" / "status.json").read_text()
    assert "PanicException at the node; its log says more" in status and "patient-7" not in status
