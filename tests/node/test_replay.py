"""What a hospital's node draws: only if the run's options lead to it, from weights like those that it has seen."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fl_app.data.images import DatasetInfo
from fl_app.messages.records import TRAIN, Instruction
from fl_app.node import replay
from fl_app.node.history import check_weights
from fl_app.node.permissions import NotAllowedError
from fl_app.node.replay import draw_missing
from fl_app.options.sections import OptionValue
from fl_app.tasks import build_task, initial_weights
from tests.node.test_quality import Hospital

INFO = DatasetInfo(("a", "b"), 1, 8)
REPLAY: dict[str, OptionValue] = {
    "classification.replay": "generated",
    "classification.replay-images": 3,
    "classification.replay-ratio": 2.0,
    "sampling.num-steps": 1,
}


def instruction(hospital: Hospital, *, times: float = 1.0, task: str = "diffusion") -> Instruction:
    own = initial_weights(build_task(task, hospital.config, INFO), 0)
    return Instruction(task, 3, "run", "", {key: value * times for key, value in own.items()})


def test_a_node_draws_once_and_reads_what_it_has_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hospital = Hospital(tmp_path, run=REPLAY)
    first = draw_missing(instruction(hospital), [True, False], hospital.node)
    assert first["drawn"].tolist() == [3, 0]  # nobody holds the second class
    monkeypatch.setattr(replay, "_extend", None)  # nothing is drawn any more
    again = draw_missing(instruction(hospital), [True, False], hospital.node)
    assert np.array_equal(first["drawn"], again["drawn"])


def test_a_damaged_file_of_images_is_drawn_anew(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, run=REPLAY)
    draw_missing(instruction(hospital), [True, True], hospital.node)
    (path,) = tmp_path.rglob("generated-*-0000.safetensors")
    before = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"damaged")
    next(tmp_path.rglob("replay.json")).unlink()
    draw_missing(instruction(hospital), [True, True], hospital.node)
    assert path.read_bytes() == before


def test_nothing_is_drawn_if_the_run_does_not_replay(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    with pytest.raises(NotAllowedError, match="the run's options do not lead to this"):
        draw_missing(instruction(hospital), [True, True], hospital.node)
    assert not list(tmp_path.rglob("generated-*"))


def test_nothing_is_drawn_from_weights_far_from_those_that_the_node_has_seen(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, run=REPLAY)
    with pytest.raises(NotAllowedError, match="away from"):
        draw_missing(instruction(hospital, times=100.0), [True, True], hospital.node)


def test_a_model_that_draws_no_finite_numbers_adds_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hospital = Hospital(tmp_path, run=REPLAY)
    monkeypatch.setattr("fl_app.diffusion.task.DiffusionTask.draw_images", lambda *arguments: None)
    with pytest.raises(NotAllowedError, match="not finite numbers"):
        draw_missing(instruction(hospital), [True, True], hospital.node)


@pytest.mark.parametrize("number", [0, 4, 10**6, -(10**6)])
def test_nothing_is_drawn_after_a_round_that_the_run_does_not_have(tmp_path: Path, number: int) -> None:
    hospital = Hospital(tmp_path, run=REPLAY)
    asked = dataclasses.replace(instruction(hospital, times=9.0), round_number=number)
    with pytest.raises(NotAllowedError, match="'num-rounds' is 3"):
        draw_missing(asked, [True, True], hospital.node)


def test_a_run_that_begins_anew_forgets_what_was_drawn_and_answered(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, run=REPLAY)
    draw_missing(instruction(hospital), [True, True], hospital.node)
    hospital.ask("pixels")
    folder = tmp_path / "run" / "north" / "diffusion"
    assert len(list(folder.iterdir())) == 7  # history, answer, note; of each class images and their lock
    task = build_task("diffusion", hospital.config, INFO)
    check_weights(task, hospital.node, Instruction("diffusion", 1, "run", "", initial_weights(task, 0)), TRAIN)
    assert [path.name for path in folder.iterdir()] == ["history.safetensors"]


def test_processes_that_draw_the_same_class_lose_no_image(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, run=REPLAY)
    task, folder = build_task("diffusion", hospital.config, INFO), tmp_path / "shared"
    folder.mkdir()
    with ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(replay._extend, folder, "weights", 0, wanted, task, task.build_model())  # type: ignore[arg-type]
            for wanted in (2, 5, 3, 4)
        ]
        found = [job.result() for job in jobs]
    assert all(one >= wanted for one, wanted in zip(found, (2, 5, 3, 4), strict=True))
    assert len(replay._read(folder, "weights", 0)) == 5
