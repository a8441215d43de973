"""Lies of one site about its test images: the table holds those of the common set, or says whose word it is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from fl_app.messages.records import DESCRIBE, HEADS
from fl_app.options.sections import OptionValue
from fl_app.sums import measures_most
from tests.federation import run_federation
from tests.test_hospitals import STATED, federate, hospitals, read, write_learnable
from tests.test_lies import CLASSES, LIAR, Change, Sums, with_description, with_sums
from tests.tiny import tiny_run

pytestmark = pytest.mark.usefixtures("undrawn")

DIGITS: dict[str, OptionValue] = {
    "tasks": "classification", "data.limit": 120, "classification.num-rounds": 1,
    "federation.min-nodes": 2, "federation.min-replies": 2,
}  # fmt: skip
MILLION = 10**6


def of_liar(changes: dict[str, Change]) -> Any:
    def meddle(instruction: Message, reply: Message) -> Message | None:
        change = changes.get(instruction.metadata.message_type)
        return change(reply) if change and instruction.metadata.dst_node_id == LIAR else reply

    return meddle


def exchange(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run/classification/prototypes/round-0001.json").read_text())
    return found


def num_tested(folder: Path) -> set[int]:
    return {row["figures"]["n"] for row in exchange(folder)["results"] if row["part"] == "test"}


def status(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run/status.json").read_text())
    return found


def right_answers(sums: Sums) -> Sums:
    """Count a million more test images of each class, all of them right and sure, all of them one patient's each."""
    changed = {}
    for key in [key for key in sums if key.startswith("test/") and key.endswith("/confusion")]:
        prefix = key.removesuffix("confusion")
        num_classes = len(sums[key])
        changed[key] = sums[key] + MILLION * np.eye(num_classes)
        changed[f"{prefix}auroc"] = sums[f"{prefix}auroc"] + np.array(
            [[(num_classes - 1.0) * MILLION, 0.0], [0.0, MILLION]]
        )
        patients = sums[f"{prefix}patients"].copy()
        patients[:4] += num_classes * MILLION
        changed[f"{prefix}patients"] = patients
    return changed


@pytest.mark.parametrize(
    "lie",
    [
        {"test_counts": [MILLION] * CLASSES},
        {"test_counts": [MILLION] * CLASSES, "test_shares": 0},
        {"test_counts": [0] * CLASSES},
        {"test_counts": [1] * CLASSES, "test_shares": 2},
    ],
)
def test_who_describes_another_share_of_the_common_test_set_is_left_out(lie: dict[str, Any], tmp_path: Path) -> None:
    run_federation(tiny_run(tmp_path, DIGITS), 3, meddle=of_liar({DESCRIBE: with_description(**lie)}))
    reasons = status(tmp_path)["nodes"][f"node-{LIAR}"]["reasons"]
    assert f"Site 'site-1' says that it measures {sum(lie['test_counts'])} test images" in reasons[0]
    assert status(tmp_path)["state"] == "degraded"
    assert num_tested(tmp_path) == {359 - 120}
    assert exchange(tmp_path)["test-set"] == "common"


@pytest.mark.parametrize("num_shares", [0, 2])
def test_one_site_cannot_say_for_all_whose_test_images_they_measure(num_shares: int, tmp_path: Path) -> None:
    meddle = of_liar({DESCRIBE: with_description(test_shares=num_shares)})
    run_federation(tiny_run(tmp_path, DIGITS), 3, meddle=meddle)
    assert exchange(tmp_path)["test-set"] == "common" and num_tested(tmp_path) == {359}


def test_if_one_hospital_has_most_test_images_the_run_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("north", "south", "west"):
        write_learnable(tmp_path / name)
    changes = {DESCRIBE: with_description(test_counts=[2 * MILLION] * 2), HEADS: with_sums(right_answers)}
    nodes = hospitals(tmp_path, "north", "south", "west")
    run_federation(tiny_run(tmp_path / "runs", STATED), 3, node_options=nodes, meddle=of_liar(changes))
    found = read(tmp_path, "status.json")
    assert found["state"] == "degraded"
    assert "south measured 20000" in found["reason"] and "test images, so the test figures" in found["reason"]
    assert "south says that it has 4000000 of all" in caplog.text


def test_hospitals_of_one_size_complete_a_run(tmp_path: Path) -> None:
    for name in ("north", "south", "west"):
        write_learnable(tmp_path / name)
    federate(tmp_path, STATED, hospitals(tmp_path, "north", "south", "west"))
    assert read(tmp_path, "status.json")["state"] == "completed"


def test_ten_sites_of_a_skewed_split_are_not_accused() -> None:
    generator = np.random.default_rng(0)
    for _ in range(1000):
        sizes = 100 * generator.dirichlet([0.1] * 10, size=CLASSES).sum(axis=0)
        assert measures_most(dict(zip("abcdefghij", sizes, strict=True))) is None


def test_whoever_has_more_than_three_quarters_of_the_test_images_is_named() -> None:
    assert measures_most({"a": 10, "b": 10, "c": 61}) == "c" and measures_most({"a": 10, "b": 10, "c": 60}) is None
    assert measures_most({"a": 0, "b": 0, "c": 5}) == "c" and measures_most({"a": 0, "b": 0, "c": 0}) is None
    assert measures_most({"a": 10, "b": 101}) == "b" and measures_most({"a": 10, "b": 100}) is None
    assert measures_most({"a": 10}) is None and measures_most({}) is None
