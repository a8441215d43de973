"""Whether one head beats another on the same images, and the choice that follows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fl_app.metrics.choosing import choose_head
from fl_app.metrics.classification import figures, score_sums
from fl_app.metrics.intervals import patient_sums
from fl_app.metrics.paired import coarse_bins, difference, joint_bins, paired_counts
from fl_app.sums import add
from tests.metrics.scores import Array, Labels, scored

laws = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)
FIGURES = ("accuracy", "balanced-accuracy", "auc")
Sums = dict[str, Array]


def measured(scores: Array, linear: Array, labels: Labels, patients: NDArray[np.int64] | None = None) -> Sums:
    """Everything that a head is compared with the linear one by."""
    is_right, linear_right = (values.argmax(axis=1) == labels for values in (scores, linear))
    return score_sums(scores, labels) | {
        "paired": paired_counts(is_right, linear_right, labels, scores.shape[1]),
        "patients": patient_sums(patients, is_right, linear_right),
        "joint": joint_bins(scores, linear, labels),
    }


def pair(both: int, won: int, lost: int, neither: int, repeats: int = 1) -> tuple[Sums, Sums]:
    """The sums of a head and the linear one, right on so many images; `repeats` images a patient, all alike."""
    is_right = np.repeat([1, 1, 0, 0], [both, won, lost, neither])
    linear_right = np.repeat([1, 0, 1, 0], [both, won, lost, neither])
    labels = np.arange(len(is_right)) % 2
    patients = np.arange(len(is_right)) if repeats > 1 else None
    whole = [np.repeat(values, repeats, axis=0) for values in (is_right, linear_right, labels)]
    scores = [np.eye(2)[np.where(right, whole[2], 1 - whole[2])] for right in whole[:2]]
    of_patients = None if patients is None else np.repeat(patients, repeats)
    head, linear = scores
    return measured(head, linear, whole[2], of_patients), measured(linear, linear, whole[2], of_patients)


def chosen(head: Sums, linear: Sums, by: str = "accuracy", confidence: float = 0.95) -> str:
    return choose_head({"linear": linear, "lda": head}, by, confidence).head


def test_a_head_that_is_better_within_the_interval_does_not_replace_linear() -> None:
    choice = choose_head(dict(zip(("lda", "linear"), pair(80, 8, 4, 8), strict=True)), "accuracy", 0.95)
    assert choice.head == "linear"
    assert choice.differences["lda"] is not None and choice.differences["lda"].value == pytest.approx(0.04)
    assert "accuracy 0.840 on 100 held-out images" in choice.why and "lda, differs by +0.040 (95 %" in choice.why


def test_a_head_that_is_better_beyond_the_interval_replaces_linear_and_says_by_how_much() -> None:
    choice = choose_head(dict(zip(("lda", "linear"), pair(70, 16, 4, 10), strict=True)), "accuracy", 0.95)
    assert choice.head == "lda"
    assert choice.why.startswith("better than linear, which has accuracy 0.740 on 100 held-out images: by +0.120 (95 %")


def test_without_an_image_on_which_the_heads_differ_linear_stays_whatever_the_confidence() -> None:
    for confidence in (0.0, 0.5, 0.95):
        for by in FIGURES:
            assert chosen(*pair(90, 0, 0, 10), by, confidence) == "linear"


def test_with_no_confidence_asked_for_any_better_head_ships_and_no_worse_one() -> None:
    assert chosen(*pair(80, 5, 4, 11), confidence=0.0) == "lda"
    assert chosen(*pair(80, 4, 5, 11), confidence=0.0) == "linear"
    assert chosen(*pair(80, 4, 4, 12), confidence=0.0) == "linear"


def test_the_interval_is_that_of_bonett_and_price_by_hand() -> None:
    found = difference(*pair(80, 8, 4, 8), by="accuracy", confidence=0.95)
    assert found is not None
    won, lost = 9 / 102, 5 / 102
    half = 1.959964 * np.sqrt((won + lost - (won - lost) ** 2) / 102)
    assert [found.low, found.high] == pytest.approx([won - lost - half, won - lost + half])


@laws
@given(seeds, st.integers(2, 6))
def test_images_of_the_same_patients_decide_no_more_than_the_patients(seed: int, repeats: int) -> None:
    generator = np.random.default_rng(seed)
    both, won, lost, neither = (int(n) for n in generator.multinomial(120, [0.7, 0.15, 0.05, 0.1]))
    alone, alike = (difference(*pair(both, won, lost, neither, n), "accuracy", 0.9) for n in (1, repeats))
    assert alone is not None and alike is not None
    widths = [one.high - one.low for one in (alone, alike)]
    assert widths[1] == pytest.approx(widths[0], rel=0.12)


def test_a_linear_head_no_better_than_a_guess_is_replaced_by_any_better_one() -> None:
    head, linear = pair(2, 2, 0, 0)  # 4 images of two classes, half of them right
    choice = choose_head({"linear": linear, "lda": head}, "accuracy", 0.95)
    assert choice.head == "lda" and "no more than a guess" in choice.why


def test_of_several_heads_that_pass_the_best_ships_and_equals_go_by_the_auc_then_by_their_order() -> None:
    labels = np.arange(200) % 2
    linear = np.eye(2)[np.where(np.arange(200) < 120, labels, 1 - labels)]
    good, best = (np.eye(2)[np.where(np.arange(200) < right, labels, 1 - labels)] for right in (170, 180))
    surer = best * np.where(np.arange(200) < 180, 3.0, 1.0)[:, None]  # as accurate, with a better AUC
    sums = {"linear": measured(linear, linear, labels), "cosine": measured(good, linear, labels)}
    sums["nearest-mean"] = measured(best, linear, labels)
    sums["lda"] = measured(best, linear, labels)
    assert choose_head(sums, "accuracy", 0.9).head == "nearest-mean"
    sums["lda"] = measured(surer, linear, labels)
    assert choose_head(sums, "accuracy", 0.9).head == "lda"


@pytest.mark.parametrize("by", FIGURES)
def test_no_image_and_no_other_head_leave_linear(by: str) -> None:
    nothing = measured(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, dtype=np.int64))
    assert choose_head({"linear": nothing, "lda": nothing}, by, 0.8).why == "no held-out image was measured"
    alone = choose_head({"linear": pair(5, 0, 0, 5)[1]}, by, 0.8)
    assert (alone.head, alone.why) == ("linear", "no other head is defined")


def test_an_auc_that_is_not_defined_leaves_linear() -> None:
    scores = np.eye(2)[np.zeros(6, dtype=np.int64)]
    one_class = measured(scores, scores, np.zeros(6, dtype=np.int64))
    choice = choose_head({"linear": one_class, "lda": one_class}, "auc", 0.8)
    assert (choice.head, choice.why) == ("linear", "auc is not defined on the held-out images")


def test_balanced_accuracy_can_choose_what_accuracy_would_not() -> None:
    labels = np.repeat([0, 1], [270, 30])
    linear = np.zeros(300, dtype=np.int64)
    linear[295:] = 1  # of the rare class 5 are found
    fair = labels.copy()
    fair[:40], fair[270:275] = 1, 0  # 25 are found, and 40 others taken for it
    sums = {"linear": measured(np.eye(2)[linear], np.eye(2)[linear], labels)}
    sums["lda"] = measured(np.eye(2)[fair], np.eye(2)[linear], labels)
    assert choose_head(sums, "accuracy", 0.8).head == "linear"
    assert choose_head(sums, "balanced-accuracy", 0.8).head == "lda"


@pytest.mark.parametrize("by", FIGURES)
@pytest.mark.parametrize("num_classes", [2, 4])
def test_of_equally_good_heads_linear_is_replaced_about_as_seldom_as_the_confidence_says(
    by: str, num_classes: int
) -> None:
    replaced = 0
    for trial in range(200):
        shared, labels = scored(trial, 150, num_classes, 1.0, 2.0)
        noise = np.random.default_rng(trial + 10_000).standard_normal((2, *shared.shape))
        scores, linear = shared + 0.7 * noise
        replaced += chosen(measured(scores, linear, labels), measured(linear, linear, labels), by, 0.8) == "lda"
    assert replaced <= 0.15 * 200  # one side of 80 %: 10 %, and twice its deviation


@pytest.mark.parametrize("by", FIGURES)
@pytest.mark.parametrize("num_classes", [2, 4])
def test_the_paired_interval_covers_the_true_difference(by: str, num_classes: int) -> None:
    def drawn(seed: int, count: int) -> tuple[Array, Array, Labels]:
        shared, labels = scored(seed, count, num_classes, 1.0, 1.5)
        noise = np.random.default_rng(seed + 10_000).standard_normal((2, *shared.shape))
        return shared + 0.3 * noise[0], shared + 1.5 * noise[1], labels

    scores, linear, labels = drawn(99_999, 100_000)
    truth = [figures(score_sums(values, labels))[by] for values in (scores, linear)]
    covered = 0
    for trial in range(100):
        scores, linear, labels = drawn(trial, 200)
        head, other = measured(scores, linear, labels), measured(linear, linear, labels)
        found = difference(head, other, by, 0.9)
        assert found is not None
        covered += found.low <= truth[0] - truth[1] <= found.high
    assert covered >= 83


@laws
@given(seeds, st.lists(st.integers(0, 120), max_size=3))
def test_paired_sums_add_up_over_sites(seed: int, cuts: list[int]) -> None:
    scores, labels = scored(seed, 120)
    linear = scored(seed + 1, 120)[0]
    parts = zip(*(np.split(values, sorted(cuts)) for values in (scores, linear, labels)), strict=True)
    added, whole = add(measured(*part) for part in parts), measured(scores, linear, labels)
    for key in ("paired", "patients", "joint"):
        assert np.array_equal(added[key], whole[key])


@laws
@given(seeds)
def test_joint_counts_have_the_margins_of_both_heads(seed: int) -> None:
    scores, labels = scored(seed, 90)
    linear = scored(seed + 1, 90)[0]
    joint = joint_bins(scores, linear, labels)
    for axis, values in ((2, scores), (3, linear)):
        assert np.array_equal(joint.sum(axis=axis), coarse_bins(score_sums(values, labels)["auroc"]))
