"""Laws of the weighted mean in fixed point; replies wait on disk and come back bit for bit."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fl_app.errors import RunFolderError
from fl_app.messages.records import Reply
from fl_app.strategies.folding import LARGEST_TERM, ExactMean, WaitingReplies

Float32s = NDArray[np.float32]
Term = tuple[Float32s, float]

SHAPE = (3,)

laws = settings(max_examples=50, deadline=None)

values = st.lists(st.floats(-100.0, 100.0, width=32), min_size=3, max_size=3).map(
    lambda numbers: np.array(numbers, dtype=np.float32)
)
image_counts = st.integers(1, 2**20).map(float)
terms = st.lists(st.tuples(values, image_counts), min_size=1, max_size=8)


def mean_of(given_terms: list[Term]) -> Float32s:
    mean = ExactMean({"w": given_terms[0][0]})
    for value, weight in given_terms:
        assert mean.fits({"w": value}, weight)
        mean.add({"w": value}, weight)
    return mean.result()["w"].astype(np.float32, copy=False)


@laws
@given(terms, st.data())
def test_the_mean_does_not_depend_on_the_order_of_arrival_bit_for_bit(
    given_terms: list[Term], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(given_terms))))
    assert mean_of([given_terms[i] for i in order]).tobytes() == mean_of(given_terms).tobytes()


@laws
@given(terms)
def test_the_mean_is_the_weighted_mean_in_float64_rounded_once(given_terms: list[Term]) -> None:
    stacked = np.stack([value for value, _ in given_terms]).astype(np.float64)
    weights = np.array([weight for _, weight in given_terms])
    expected = (weights[:, None] * stacked).sum(axis=0) / weights.sum()
    # Where terms cancel, float64 sums are off by their own rounding, which is relative to the largest term.
    slack = 1e-13 * (weights[:, None] * np.abs(stacked)).sum(axis=0) / weights.sum()
    error = np.abs(mean_of(given_terms).astype(np.float64) - expected)
    assert (error <= np.spacing(np.abs(expected).astype(np.float32)) + slack + 2.0**-72).all()


@laws
@given(values, st.integers(1, 2**25 - 1).map(float))
def test_the_mean_of_one_term_is_the_term_bit_for_bit(value: Float32s, weight: float) -> None:
    normal = np.where(np.abs(value) < 2.0**-44, np.float32(0.0), value)  # far below, the last bits lie under 2^-72
    assert (mean_of([(normal, weight)]) == normal).all()


@laws
@given(st.floats(-1.0, 1.0, width=32).filter(lambda value: value == 0 or abs(value) >= 2.0**-44))
def test_one_term_keeps_its_bits_up_to_the_largest_weight(value: float) -> None:
    term = np.full(SHAPE, value, dtype=np.float32)
    assert (mean_of([(term, 2.0**29 - 1.0)]) == term).all()


@laws
@given(values, st.lists(st.integers(1, 2**10).map(float), min_size=1, max_size=8))
def test_the_mean_of_equal_terms_is_the_term(value: Float32s, weights: list[float]) -> None:
    normal = np.where(np.abs(value) < 2.0**-44, np.float32(0.0), value)
    assert (mean_of([(normal, weight) for weight in weights]) == normal).all()


@laws
@given(terms, values)
def test_a_term_of_weight_zero_changes_no_bit(given_terms: list[Term], ignored: Float32s) -> None:
    assert mean_of([*given_terms, (ignored, 0.0)]).tobytes() == mean_of(given_terms).tobytes()


def test_the_mean_of_terms_that_cancel_is_the_small_one_that_is_left() -> None:
    large, small = np.array([1e6], dtype=np.float32), np.array([1e-6], dtype=np.float32)
    assert mean_of([(large, 1000.0), (small, 1000.0), (-large, 1000.0)])[0] == np.float32(np.float64(small[0]) / 3.0)


def test_a_term_up_to_the_largest_fits_and_one_beyond_does_not() -> None:
    mean = ExactMean({"w": np.zeros(SHAPE, np.float32)})
    assert mean.fits({"w": np.array([0.0, -1.0, 1.0], np.float32)}, LARGEST_TERM)
    assert not mean.fits({"w": np.array([0.0, -2.0, 1.0], np.float32)}, LARGEST_TERM)


def test_sums_of_as_many_of_the_largest_terms_as_fit_do_not_overflow() -> None:
    term = {"w": np.array([1.0], np.float32)}
    mean, count = ExactMean(term), 0
    while mean.fits(term, LARGEST_TERM):
        mean.add(term, LARGEST_TERM)
        count += 1
    assert count >= 2000
    assert mean.result()["w"].tolist() == [1.0]


def test_an_empty_array_fits_and_comes_back_empty() -> None:
    mean = ExactMean({"w": np.zeros((0, 2), np.float32)})
    assert mean.fits({"w": np.zeros((0, 2), np.float32)}, 1.0)
    mean.add({"w": np.zeros((0, 2), np.float32)}, 1.0)
    assert mean.result()["w"].shape == (0, 2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("shape", [(), (1,), (2, 1, 3)])
def test_every_array_keeps_its_dtype_and_its_shape(dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    value = np.full(shape, 7, dtype=dtype)
    mean = ExactMean({"w": value})
    mean.add({"w": value}, 3.0)
    found = mean.result()["w"]
    assert (found.dtype, found.shape) == (value.dtype, shape)
    assert (found == value).all()


def test_whole_numbers_are_rounded_to_the_nearest() -> None:
    mean = ExactMean({"steps": np.array(0, dtype=np.int64)})
    mean.add({"steps": np.array(10, dtype=np.int64)}, 1.0)
    mean.add({"steps": np.array(11, dtype=np.int64)}, 3.0)
    assert mean.result()["steps"] == 11  # 10.75


def test_a_mean_without_any_weight_is_refused() -> None:
    mean = ExactMean({"w": np.zeros(SHAPE, np.float32)})
    mean.add({"w": np.ones(SHAPE, np.float32)}, 0.0)
    with pytest.raises(ZeroDivisionError, match="weight above 0"):
        mean.result()


def reply(site: str, size: int = 6, has_ema: bool = False) -> Reply:
    generator = np.random.default_rng(len(site))
    weights = {"w": generator.normal(size=(size, 2)).astype(np.float32), "steps": np.array(3)}
    return Reply(site, "diffusion", 1, 5.0, weights, node_ema=weights if has_ema else None, loss_sum=2.0)


def test_replies_come_back_as_they_were_in_the_order_of_the_names(tmp_path: Path) -> None:
    waiting = WaitingReplies(str(tmp_path))
    for number, site in enumerate(("ccc", "a", "bb")):
        waiting.put(reply(site, has_ema=site == "bb"), float(number))
    assert sorted(waiting.norms().values()) == [0.0, 1.0, 2.0]
    found = list(waiting.take())
    assert [(one.site, norm) for one, norm in found] == [("a", 1.0), ("bb", 2.0), ("ccc", 0.0)]
    for one, _ in found:
        expected = reply(one.site, has_ema=one.site == "bb")
        assert all(np.array_equal(one.weights[key], value) for key, value in expected.weights.items())
        assert (one.node_ema is None) == (expected.node_ema is None) and one.loss_sum == 2.0
    assert list(tmp_path.iterdir()) == []


def test_only_one_reply_is_in_memory(tmp_path: Path) -> None:
    waiting = WaitingReplies(str(tmp_path))
    size = reply("", 100_000).weights["w"].nbytes
    tracemalloc.start()
    for number in range(20):
        waiting.put(reply("x" * number, 100_000), 1.0)
    for one, _ in waiting.take():
        del one
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * size


def test_what_a_killed_server_left_is_removed(tmp_path: Path) -> None:
    WaitingReplies(str(tmp_path)).put(reply("a"), 1.0)
    WaitingReplies(str(tmp_path)).close()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_nothing_is_named(tmp_path: Path) -> None:
    waiting = WaitingReplies(str(tmp_path))
    waiting.close()
    with pytest.raises(RunFolderError, match=r"cannot be written to .*Free space there"):
        waiting.put(reply("a"), 1.0)
