"""Figures and verdicts of an audit by membership inference: laws, borders, and one site that lies."""

import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import ndtr

from fl_app.metrics.intervals import within_auc_interval
from fl_app.metrics.membership import (
    HELD_OUT,
    HIGHEST,
    LOWEST,
    NUM_BINS,
    PARTS,
    SCORES,
    TEST,
    TRAIN,
    auc_of,
    bin_of,
    blank_histograms,
    fewest_held_out,
    histogram,
    histogram_fault,
    judge_membership,
)
from fl_app.sums import add

Sums = dict[str, NDArray[np.float64]]
LIMIT = 0.65

draws = st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=30).map(np.array)


def site(members: NDArray[np.float64], controls: NDArray[np.float64], tests: NDArray[np.float64] | None = None) -> Sums:
    """Return the counts of a site, the same by both scores."""
    sums = blank_histograms()
    for score in SCORES:
        sums[f"{score}/{TRAIN}"], sums[f"{score}/{HELD_OUT}"] = histogram(members), histogram(controls)
        sums[f"{score}/{TEST}"] = histogram(np.zeros(0) if tests is None else tests)
    return sums


def drawn(seed: int, num_members: int, num_controls: int, gap: float, level: float = 0.0) -> Sums:
    """Return a site whose members' scores are lower by a factor of exp(gap), on average."""
    generator = np.random.default_rng(seed)
    members = np.exp(generator.normal(level - 3.0 - gap, 0.5, num_members))
    return site(members, np.exp(generator.normal(level - 3.0, 0.5, num_controls)))


@given(draws, draws)
@settings(deadline=None)
def test_histograms_add_up_whatever_the_split_and_hold_every_score(
    one: NDArray[np.float64], other: NDArray[np.float64]
) -> None:
    both = histogram(np.concatenate([one, other]))
    assert np.array_equal(both, histogram(one) + histogram(other))
    assert both.sum() == len(one) + len(other)


def test_bins_keep_the_order_and_take_in_what_lies_outside() -> None:
    scores = np.array([-np.inf, -1.0, 0.0, LOWEST, 1e-3, 0.1, 1.0, HIGHEST, np.inf])
    found = bin_of(scores)
    assert list(found) == sorted(found) and found[0] == 0 and found[-1] == NUM_BINS - 1
    assert bin_of(np.array([np.nan])) == NUM_BINS - 1


def test_the_auc_is_the_share_of_pairs_and_half_of_those_in_one_bin() -> None:
    members, controls = np.array([0.01, 0.1, 0.1]), np.array([0.1, 1.0])
    by_hand = (2 + 1.5 + 1.5) / 6
    assert auc_of(histogram(members), histogram(controls)) == pytest.approx(by_hand)
    assert auc_of(histogram(controls), histogram(members)) == pytest.approx(1 - by_hand)
    assert auc_of(histogram(members), np.zeros(NUM_BINS)) is None


def test_one_site_has_the_same_auc_within_sites_and_pooled_and_equal_sites_do_not_change_it() -> None:
    one = drawn(0, 200, 80, 0.4)
    alone = judge_membership({"a": one}, LIMIT).scores["loss"]
    assert alone.auc == pytest.approx(alone.pooled_auc)
    twice = judge_membership({"a": one, "b": one}, LIMIT).scores["loss"]
    assert twice.auc == pytest.approx(alone.auc)
    assert alone.interval and twice.interval
    assert twice.interval[1] - twice.interval[0] < alone.interval[1] - alone.interval[0]


def test_pooled_figures_are_those_of_all_images_in_one_place() -> None:
    parts = {str(seed): drawn(seed, 100, 150, 0.3) for seed in range(3)}
    pooled = judge_membership({"all": add(parts.values())}, LIMIT).scores["sima"]
    found = judge_membership(parts, LIMIT).scores["sima"]
    assert found.pooled_auc == pytest.approx(pooled.auc) and found.tpr == pooled.tpr is not None


def test_sites_with_easier_images_that_hold_fewer_out_are_no_sign_of_memory() -> None:
    parts = {"easy": drawn(1, 500, 50, 0.0, level=-2.0), "hard": drawn(2, 100, 400, 0.0)}
    found = judge_membership(parts, LIMIT)
    loss = found.scores["loss"]
    assert loss.pooled_auc is not None and loss.pooled_auc > 0.8
    assert loss.auc == pytest.approx(0.5, abs=0.06) and found.verdict == "passed"


def test_the_control_compares_held_out_with_test_images() -> None:
    generator = np.random.default_rng(0)
    same, other = np.exp(generator.normal(-3, 0.5, (2, 300)))
    found = judge_membership({"a": site(same, same, other)}, LIMIT).scores["loss"]
    assert found.control_auc == pytest.approx(0.5, abs=0.05) and found.control_interval
    shifted = judge_membership({"a": site(same, same, 10 * other)}, LIMIT).scores["loss"]
    assert shifted.control_auc is not None and shifted.control_auc > 0.99
    assert judge_membership({"a": site(same, same)}, LIMIT).scores["loss"].control_auc is None


@pytest.mark.parametrize(
    ("gap", "number", "verdict"),
    [
        (0.0, 300, "passed"),
        (2.0, 300, "exceeded"),
        (2.0, 30, "exceeded"),
        (0.0, 4, "undecided"),
        (0.4, 40, "undecided"),
    ],
)
def test_a_verdict_needs_an_interval_on_one_side_of_the_limit(gap: float, number: int, verdict: str) -> None:
    found = judge_membership({"a": drawn(3, number, number, gap)}, LIMIT)
    assert found.verdict == verdict, found.reason
    interval = found.scores["loss"].interval
    assert interval is not None
    sides = {"passed": interval[1] < LIMIT, "exceeded": interval[0] > LIMIT}
    assert sides.get(verdict, interval[0] <= LIMIT <= interval[1])
    assert "the limit" in found.reason


def test_one_score_alone_can_exceed_and_both_must_pass() -> None:
    known, unknown = drawn(0, 300, 300, 2.0), drawn(0, 300, 300, 0.0)
    mixed = {key: (known if key.startswith("sima") else unknown)[key] for key in known}
    assert judge_membership({"a": mixed}, LIMIT).verdict == "exceeded"


def test_too_few_images_say_how_many_are_needed() -> None:
    found = judge_membership({"a": drawn(0, 100, 3, 0.0)}, LIMIT)
    fewest = fewest_held_out(100, LIMIT)
    assert fewest is not None and found.verdict == "undecided"
    assert f"3 held-out images were compared; at least {fewest} are needed" in found.reason
    even = site(np.full(100, 0.1), np.full(fewest, 0.1))
    assert judge_membership({"a": even}, LIMIT).verdict == "passed"
    one_less = site(np.full(100, 0.1), np.full(fewest - 1, 0.1))
    assert judge_membership({"a": one_less}, LIMIT).verdict == "undecided"
    near = drawn(0, 300, 100, 0.3)
    found = judge_membership({"a": near}, LIMIT)
    assert found.verdict == "undecided" and "100 held-out images were compared; more are needed" in found.reason
    assert fewest_held_out(3, LIMIT) is None
    assert "no number of held-out images is enough" in judge_membership({"a": drawn(0, 3, 9, 0.0)}, LIMIT).reason


def test_no_answer_and_no_held_out_image_are_undecided_and_no_figure_is_made_up() -> None:
    for parts in ({}, {"a": site(np.full(9, 0.1), np.zeros(0))}, {"a": blank_histograms()}):
        found = judge_membership(parts, LIMIT)
        assert found.verdict == "undecided" and "no site has both" in found.reason
        loss = found.scores["loss"]
        assert (loss.auc, loss.interval, loss.pooled_auc, loss.tpr) == (None, None, None, None)


@pytest.mark.parametrize("size", [40, 100, 500])  # at most as many as a node may score
def test_one_site_of_three_puts_a_model_aside_and_is_named(size: int) -> None:
    others = {name: drawn(seed, 100, 40, 0.0) for seed, name in enumerate(("a", "b"))}
    assert judge_membership({**others, "c": drawn(9, 100, 40, 0.0)}, LIMIT).verdict == "passed"
    found = judge_membership({**others, "c": drawn(9, size, size, 50.0)}, LIMIT)
    assert found.verdict == "exceeded"
    assert "This rests on c alone: either the model knows the images of c, or c lies" in found.reason


@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize("size", [0, 100, 500])
def test_one_site_cannot_free_a_model_that_knows_the_others_images(number: int, size: int) -> None:
    honest = {f"site-{seed}": drawn(seed, 100, 40, 2.0) for seed in range(number)}
    assert judge_membership(honest, LIMIT).verdict == "exceeded"
    found = judge_membership({**honest, "liar": drawn(9, size, size, -50.0)}, LIMIT)
    assert found.verdict == "exceeded"
    assert ("without liar" in found.reason) == (number > 1 and (size == 500 or (size == 100 and number < 5))), (
        found.reason
    )


def test_of_two_sites_the_one_on_which_an_alarm_rests_is_named() -> None:
    found = judge_membership({"a": drawn(0, 100, 40, 0.0), "c": drawn(9, 500, 500, 50.0)}, LIMIT)
    assert found.verdict == "exceeded" and "This rests on c alone" in found.reason


def test_an_alarm_that_no_single_site_brings_about_names_none() -> None:
    found = judge_membership({str(seed): drawn(seed, 200, 100, 2.0) for seed in range(4)}, LIMIT)
    assert found.verdict == "exceeded" and "rests" not in found.reason


def test_one_site_of_three_alone_brings_about_no_pass() -> None:
    honest = {name: drawn(seed, 100, 40, 0.35) for seed, name in enumerate(("a", "b"))}
    assert judge_membership(honest, LIMIT).verdict == "undecided"
    found = judge_membership({**honest, "c": drawn(9, 500, 500, 0.0)}, LIMIT)
    assert found.verdict == "undecided" and "without c alone" in found.reason


def test_a_large_honest_site_does_not_make_a_clear_verdict_undecided() -> None:
    small = {name: drawn(seed, 20, 6, 2.0) for seed, name in enumerate(("a", "b"))}
    assert judge_membership({**small, "c": drawn(5, 500, 300, 2.0)}, LIMIT).verdict == "exceeded"


@pytest.mark.parametrize("sizes", [[(20.0, 5.0)], [(64.0, 16.0)], [(300.0, 300.0)], [(60.0, 6.0)] * 5])
@pytest.mark.parametrize("gap", [0.0, 0.5, 1.0])
def test_the_interval_holds_the_true_auc_as_often_as_it_says(sizes: list[tuple[float, float]], gap: float) -> None:
    generator = np.random.default_rng(0)
    true = float(ndtr(gap / np.sqrt(2)))
    inside = 0
    for _ in range(300):
        weighted = total = 0.0
        for m, n in sizes:
            members, controls = generator.normal(0, 1, int(m)), generator.normal(gap, 1, int(n))
            weight = m * n / (m + n)
            weighted += weight * float((members[:, None] < controls).mean())
            total += weight
        interval = within_auc_interval(weighted / total, sizes)
        assert interval is not None
        inside += interval[0] <= true <= interval[1]
    assert inside / 300 >= 0.92


@pytest.mark.parametrize("sizes", [(1, 1), (20, 1), (20, 2), (20, 3), (20, 5), (5, 20), (100, 10)])
def test_two_small_sets_of_unseen_images_set_off_no_alarm(sizes: tuple[int, int]) -> None:
    generator = np.random.default_rng(1)
    alarms = 0
    for _ in range(300):
        auc = float((generator.normal(size=sizes[0])[:, None] < generator.normal(size=sizes[1])).mean())
        interval = within_auc_interval(auc, [(float(sizes[0]), float(sizes[1]))])
        assert interval is not None
        alarms += interval[0] > LIMIT
    assert alarms <= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda sums: {"loss/train": sums["loss/train"] * 0.5}, "not whole numbers"),
        (lambda sums: {"loss/train": -sums["loss/train"]}, "not whole numbers"),
        (lambda sums: {"loss/train": sums["loss/train"] * np.nan}, "not whole numbers"),
        (lambda sums: {"sima/train": 2 * sums["sima/train"]}, "different numbers of images of the part 'train'"),
        (lambda sums: {key: 2 * value for key, value in sums.items()}, "scored 20 images .*'train', and 10 were"),
        (lambda sums: {key: 0 * value for key, value in sums.items()}, "scored 0 images"),
    ],
)
def test_counts_that_no_images_could_produce_are_named(change: Callable[[Sums], Sums], words: str) -> None:
    sums = drawn(0, 10, 5, 0.0)
    described = dict(zip(PARTS, (12, 5, 0), strict=True))
    assert histogram_fault(sums, described, 10) is None
    fault = histogram_fault({**sums, **change(sums)}, described, 10)
    assert fault is not None and re.search(words, fault)


def test_a_site_that_described_nothing_may_score_no_more_than_was_asked() -> None:
    sums = drawn(0, 10, 5, 0.0)
    assert histogram_fault(sums, None, 10) is None
    assert "more images of the part 'train' than were asked for" in str(histogram_fault(sums, None, 9))


def test_a_model_that_knows_the_images_of_one_site_alone_is_put_aside() -> None:
    parts = {f"site-{number}": drawn(number, 400, 400, 0.0) for number in range(9)} | {"small": drawn(9, 80, 80, 4.0)}
    found = judge_membership(parts, LIMIT)
    assert found.scores["loss"].interval is not None and found.scores["loss"].interval[1] < LIMIT
    assert found.verdict == "exceeded" and "at small alone: AUC 1.000" in found.reason
    assert "This rests on small alone" in found.reason


def test_audits_of_several_sites_of_which_the_model_knows_none_set_off_no_alarm() -> None:
    generator = np.random.default_rng(0)
    for seed in range(60):
        number = (3, 5, 10)[seed % 3]
        sizes = generator.integers(5, 150, number)
        parts = {str(place): drawn(100 * seed + place, 3 * int(n), int(n), 0.0) for place, n in enumerate(sizes)}
        found = judge_membership(parts, LIMIT)
        assert found.verdict != "exceeded", found.reason
