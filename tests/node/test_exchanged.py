"""A hospital sends sums of an exchange of prototypes in the agreed rounds, and the same ones if it is asked again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fl_app.errors import RunFolderError
from fl_app.messages.records import HEADS, MOMENTS, TRAIN
from fl_app.node.permissions import NotAllowedError
from tests.node.test_history import Hospital, refused


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path)


@pytest.mark.parametrize(("kind", "numbers"), [(TRAIN, (0, -5, 11)), (MOMENTS, (1, 3, 5)), (HEADS, (1, 11))])
def test_a_round_that_the_run_does_not_have_or_does_not_exchange_in_is_refused(
    hospital: Hospital, kind: str, numbers: tuple[int, ...]
) -> None:
    own = hospital.initial()
    hospital.ask(TRAIN, 1, own)
    for number in numbers:
        said = refused(hospital, kind, number, own)
        assert ("'num-rounds' is 10" if kind == TRAIN else "after these rounds: 4, 10") in said


def test_sums_of_an_exchange_are_measured_once_and_then_sent_again(hospital: Hospital) -> None:
    own = hospital.initial()
    hospital.ask(TRAIN, 1, own)

    def answer(number: int, value: float, **named: Any) -> float:
        history = hospital.ask(MOMENTS, number, own, **named)
        return float(history.answer(lambda: {"sum": torch.tensor([value]).double().numpy()})["sum"][0])

    assert [answer(4, 1.0), answer(4, 2.0), answer(10, 3.0), answer(10, 4.0), answer(4, 5.0)] == [
        1.0,
        1.0,
        3.0,
        3.0,
        1.0,
    ]
    path = hospital.state / "run" / "north" / "classification" / "answered-moments-0004.safetensors"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"damaged")
    assert answer(4, 6.0) == 6.0
    hospital.ask(TRAIN, 1, own)  # the run begins anew
    assert answer(4, 7.0) == 7.0


def test_sums_are_kept_as_they_are_whatever_their_order_in_memory(hospital: Hospital) -> None:
    own = hospital.initial()
    hospital.ask(TRAIN, 1, own)
    history = hospital.ask(MOMENTS, 4, own)
    rows = np.arange(6.0).reshape(2, 3)
    for _ in range(2):
        assert np.array_equal(history.answer(lambda: {"sum": rows.T})["sum"], rows.T)


def test_sums_that_the_node_cannot_keep_do_not_leave_it(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    own = hospital.initial()
    hospital.ask(TRAIN, 1, own)
    history = hospital.ask(MOMENTS, 4, own)

    def full(path: Path, mode: int) -> Any:
        raise RunFolderError(f"{path} could not be written: the disk is full.")

    monkeypatch.setattr("fl_app.node.exchanged.replacing", full)
    with pytest.raises(NotAllowedError) as caught:
        history.answer(lambda: {"sum": torch.ones(1).double().numpy()})
    assert "must be writable" in caught.value.public and str(hospital.state) not in caught.value.public
    assert history.answer(dict) == {}
