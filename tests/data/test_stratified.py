"""Stratified draws: exact in number, fair to classes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_app.data.partition import stratified_choice

_LABELS = st.lists(st.integers(0, 4), max_size=40).map(lambda labels: np.array(labels, dtype=np.int64))


@given(labels=_LABELS, data=st.data())
def test_exactly_as_many_come_as_asked_for_and_each_class_within_one_of_its_share(
    labels: np.ndarray, data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, len(labels)))
    chosen = stratified_choice(labels, count, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == len(chosen) == count
    for label in set(labels.tolist()):
        share = np.sum(labels == label) * count / len(labels)
        assert abs(np.sum(labels[chosen] == label) - share) < 1


def test_positions_ascend() -> None:
    chosen = stratified_choice(np.array([1, 0, 1, 0, 1, 0]), 4, np.random.default_rng(0))
    assert chosen.tolist() == sorted(chosen.tolist())


def test_equal_remainders_fall_to_any_class() -> None:
    drawn = {int(stratified_choice(np.arange(4), 1, np.random.default_rng(seed))[0]) for seed in range(50)}
    assert drawn == {0, 1, 2, 3}


def test_shares_worked_by_hand() -> None:
    labels = np.repeat([0, 1, 2], [70, 20, 10])  # of 5: 3.5, 1.0, 0.5, so two classes tie for the last one
    counts = np.bincount(labels[stratified_choice(labels, 5, np.random.default_rng(0))], minlength=3)
    assert counts.tolist() in ([4, 1, 0], [3, 1, 1])


def test_more_than_there_are_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        stratified_choice(np.zeros(2, dtype=np.int64), 3, np.random.default_rng(0))
