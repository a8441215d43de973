"""A timed step, and what it means for a round."""

from pathlib import Path

import pytest
import torch

from fl_app.data.images import DatasetInfo
from fl_app.doctor import training
from fl_app.doctor.training import Step, check_step, kept_bytes, largest_batch
from fl_app.tasks import Task, build_task
from tests.tiny import tiny_run

CPU = torch.device("cpu")
INFO = DatasetInfo(("a", "b"), 1, 8)


def tiny_task(tmp_path: Path, name: str = "classification") -> Task:
    return build_task(name, tiny_run(tmp_path, {"tasks": name}), INFO)


@pytest.mark.parametrize("name", ["diffusion", "classification"])
def test_a_step_of_the_real_network_is_timed(tmp_path: Path, name: str) -> None:
    finding = check_step(tiny_task(tmp_path, name), INFO, CPU, 10, tiny_run(tmp_path).federation)
    assert finding.verdict == "ready"
    assert "a step of 32 images takes" in finding.text
    assert "this node's 10 training images" in finding.text


@pytest.mark.parametrize(
    ("seconds", "start", "verdict"),
    [(1.0, 2.0, "ready"), (60.0, 2.0, "warning"), (120.0, 2.0, "not ready"), (1.0, 60.0, "warning")],
)
def test_a_round_that_takes_longer_than_it_may_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, start: float, verdict: str
) -> None:
    monkeypatch.setattr(training, "time_step", lambda *_: Step(seconds, 1))
    monkeypatch.setattr(training, "time_start", lambda _: start)
    federation = tiny_run(tmp_path, {"federation.round-deadline-seconds": 100.0}).federation
    assert check_step(tiny_task(tmp_path), INFO, CPU, 32, federation).verdict == verdict


def test_a_node_without_images_has_no_round_to_time(tmp_path: Path) -> None:
    assert check_step(tiny_task(tmp_path), INFO, CPU, 0, tiny_run(tmp_path).federation).verdict == "not checked"


def test_the_start_of_a_process_is_measured() -> None:
    assert training.time_start("classification") > 0.2


def test_a_batch_that_has_to_be_cut_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "time_step", lambda *_: Step(1.0, 4))
    finding = check_step(tiny_task(tmp_path), INFO, CPU, 32, tiny_run(tmp_path).federation)
    assert finding.verdict == "warning"
    assert "cut into 4 pieces" in finding.text


@pytest.mark.parametrize(("limit", "largest"), [(32, 32), (100, 64), (10**6, 512)])
def test_the_largest_batch_is_found_by_doubling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, largest: int
) -> None:
    def pretend(_task: Task, _info: DatasetInfo, batch_size: int, _device: torch.device) -> Step:
        return Step(1.0, 1 if batch_size <= limit else 2)

    monkeypatch.setattr(training, "time_step", pretend)
    assert largest_batch(tiny_task(tmp_path), INFO, CPU) == largest


def test_what_a_node_keeps_is_counted_from_its_network(tmp_path: Path) -> None:
    config = tiny_run(tmp_path, {"tasks": "diffusion,classification", "classification.baselines": "local"})
    kept = {}
    for plan in config.passes():
        task = build_task(plan.name, config, INFO)
        size = sum(weight.numel() * 4 for weight in task.build_model().state_dict().values())
        kept[plan.name] = kept_bytes(plan, task, 2) / size
    assert kept == {
        "diffusion": 2 * 5,  # Adam's two moments, five rounds
        "classification": 0,
        "classification-local": 5,  # its own weights
    }
