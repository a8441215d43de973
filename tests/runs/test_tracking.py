"""TensorBoard beside metrics.jsonl: what it gets, what a failing one costs, and what is said if it is not there."""

import logging
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

from fl_app.errors import OptionError
from fl_app.runs import tracking
from fl_app.runs.documents import RoundLine
from fl_app.runs.folder import RunFolder
from fl_app.runs.tracking import check_tracking, open_tracker, scalars
from fl_app.simulation.choices import check_before_start
from fl_app.strategies.node_outcome import NodeOutcome
from tests.federation import run_federation
from tests.tiny import tiny_run

LINE = RoundLine(
    task="classification",
    round=3,
    outcome="ok",
    train_loss=0.5,
    validated_round=2,
    validation_loss=0.25,
    figures={"accuracy": 0.75, "auc": None},
    drawn={"raw": 2.5},
    seconds=4.0,
    bytes_down=10,
    bytes_up=20,
    ended=1000.0,
    nodes={"a": NodeOutcome("contributed"), "b": NodeOutcome("late")},
)


class FakeWriter:
    """Keeps what it is told; `breaks`: the call that fails."""

    made: ClassVar[list["FakeWriter"]] = []
    breaks: ClassVar[str] = ""

    def __init__(self, folder: str, purge_step: int) -> None:
        self._may("init")
        self.folder, self.purge_step = Path(folder), purge_step
        self.told: list[tuple[str, float, int]] = []
        self.is_closed = False
        self.made.append(self)

    def _may(self, call: str) -> None:
        if self.breaks == call:
            raise OSError(28, "No space left on device")

    def add_scalar(self, name: str, value: float, step: int, walltime: float | None) -> None:
        self._may("add")
        self.told.append((name, value, step))

    def flush(self) -> None:
        self._may("flush")

    def close(self) -> None:
        self._may("close")
        self.is_closed = True


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[FakeWriter]:
    module: Any = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = FakeWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(tracking, "find_spec", lambda name: object())
    monkeypatch.setattr(FakeWriter, "made", [])
    monkeypatch.setattr(FakeWriter, "breaks", "")
    return FakeWriter.made


def test_each_figure_is_at_the_round_whose_weights_it_is_of() -> None:
    found = {name: (value, step) for name, value, step in scalars(LINE)}
    assert found["loss/train-loss"] == (0.5, 3) and found["loss/validation-loss"] == (0.25, 2)
    assert found["held-out/accuracy"] == (0.75, 2) and found["cost/bytes-up"] == (20.0, 3)
    assert found["cost/contributed"] == (1.0, 3) and found["drawn/frechet-distance-raw"] == (2.5, 3)


def test_what_was_not_measured_is_left_out() -> None:
    names = {name for name, _, _ in scalars(LINE)}
    assert "held-out/auc" not in names and "loss/validation-loss-ema" not in names


def test_every_line_of_the_metrics_reaches_the_tracker_pass_by_pass(
    tmp_path: Path, writers: list[FakeWriter], undrawn: None
) -> None:
    config = tiny_run(tmp_path, {"tracking": "tensorboard", "tasks": "diffusion,classification"})
    run_federation(config, 2)
    lines = RunFolder(tmp_path / "run").read_metrics()
    assert [one.folder for one in writers] == [
        tmp_path / "run" / "tensorboard" / name for name in ("diffusion", "classification")
    ]
    for writer in writers:
        expected = [one for line in lines if line.task == writer.folder.name for one in scalars(line)]
        assert writer.told == expected and writer.is_closed and writer.purge_step == 1


def test_a_run_without_the_option_imports_no_tensorboard(tmp_path: Path, writers: list[FakeWriter]) -> None:
    tracker = open_tracker("", tmp_path / "x")
    tracker.add(LINE)
    tracker.close()
    assert writers == [] and not (tmp_path / "x").exists()


def test_rounds_that_a_resumed_run_repeats_are_replaced(tmp_path: Path, writers: list[FakeWriter]) -> None:
    open_tracker("tensorboard", tmp_path).add(LINE)
    assert writers[0].purge_step == 3


@pytest.mark.parametrize("call", ["init", "add", "flush", "close"])
def test_a_tracker_that_fails_is_named_once_and_ends_no_run(
    tmp_path: Path,
    writers: list[FakeWriter],
    call: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(FakeWriter, "breaks", call)
    tracker = open_tracker("tensorboard", tmp_path)
    with caplog.at_level(logging.WARNING, logger=tracking.__name__):
        tracker.add(LINE)
        tracker.add(LINE)
        tracker.close()
    assert [record.getMessage() for record in caplog.records].count(caplog.records[0].getMessage()) == 1
    assert "the run goes on: OSError: [Errno 28] No space left on device" in caplog.text


def test_a_missing_package_is_said_before_the_run_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    config = tiny_run(tmp_path, {"tracking": "tensorboard"})
    with pytest.raises(OptionError, match=r"not installed. Install it with `pip install 'fl-app\[tensorboard\]'`"):
        check_before_start(config, 2, tmp_path, None)
    with pytest.raises(OptionError, match="not installed"):
        run_federation(config, 2)
    assert not (tmp_path / "run").exists()


def test_without_the_option_no_package_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    check_tracking("")


def read_events(folder: Path) -> dict[str, list[tuple[int, float, float]]]:
    """Return step, value and time of each scalar, by name, as the real TensorBoard reads them."""
    found = EventAccumulator(str(folder), size_guidance={SCALARS: 0})
    found.Reload()
    return {
        name: [(one.step, one.value, one.wall_time) for one in found.Scalars(name)] for name in found.Tags()[SCALARS]
    }


def expected(lines: Iterable[RoundLine]) -> dict[str, list[tuple[int, float, float]]]:
    """Return the same of lines of metrics.jsonl; an event holds float32."""
    by_name: dict[str, list[tuple[int, float, float]]] = {}
    for line in lines:
        for name, value, step in scalars(line):
            by_name.setdefault(name, []).append((step, float(np.float32(value)), line.ended or 0.0))
    return by_name


def test_the_real_tensorboard_reads_each_figure_of_the_metrics_of_a_run(tmp_path: Path, undrawn: None) -> None:
    config = tiny_run(tmp_path, {"tracking": "tensorboard", "tasks": "diffusion,classification"})
    run_federation(config, 2)
    lines = RunFolder(tmp_path / "run").read_metrics()
    for name in ("diffusion", "classification"):
        found = read_events(tmp_path / "run" / "tensorboard" / name)
        assert found == expected(line for line in lines if line.task == name)
        assert len(found["loss/train-loss"]) == config.pass_named(name).options.num_rounds
    assert {path.name for path in (tmp_path / "run" / "tensorboard").iterdir()} == {"diffusion", "classification"}


def test_the_real_tensorboard_shows_a_repeated_round_as_it_was_the_last_time(tmp_path: Path) -> None:
    lines = [replace(LINE, round=number, validated_round=number - 1, ended=100.0 * number) for number in (1, 2, 3)]
    again = [replace(line, train_loss=0.25, ended=1000.0 + line.round) for line in lines[1:]]
    for part in (lines, again):
        tracker = open_tracker("tensorboard", tmp_path)
        for line in part:
            tracker.add(line)
        tracker.close()
    found, wanted = read_events(tmp_path), expected([lines[0], *again])
    assert found["loss/train-loss"] == wanted["loss/train-loss"]
    # a repeated round's held-out figures, at the round before, are added to those of the first time
    assert {name: {event[0]: event for event in events} for name, events in found.items()} == {
        name: {event[0]: event for event in events} for name, events in wanted.items()
    }
