"""Laws of the intervals of figures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from fl_app.metrics.classification import blank_scores, figures, score_sums
from fl_app.metrics.intervals import effect_on_scores, intervals, patient_sums, wilson
from fl_app.sums import add
from tests.metrics.scores import Array, scored

laws = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)
FIGURES = ("accuracy", "balanced-accuracy", "auc", "macro-f1")
Flags = NDArray[np.bool_]


def right(is_right: Flags, patients: NDArray[np.int64] | None = None) -> dict[str, Array]:
    """The sums of images of one class of two, of which these are named right."""
    scores = np.stack([is_right, ~is_right], axis=1).astype(np.float64)
    sums = score_sums(scores, np.zeros(len(is_right), dtype=np.int64))
    return sums | {"patients": patient_sums(patients, is_right, is_right)}


def width(sums: dict[str, Array], name: str = "accuracy") -> float:
    low, high = intervals(sums)[name] or (0.0, 0.0)
    return high - low


@laws
@given(seeds)
def test_an_interval_lies_about_the_figure(seed: int) -> None:
    sums = score_sums(*scored(seed))
    ours, bounds = figures(sums), intervals(sums)
    assert set(bounds) == set(FIGURES)
    for name in FIGURES:
        low, high = bounds[name] or (1.0, 0.0)
        assert 0.0 <= low < ours[name] < high <= 1.0


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("skill", [20.0, -20.0])
def test_an_interval_has_width_where_every_image_is_right_or_every_one_wrong(name: str, skill: float) -> None:
    sums = score_sums(*scored(0, 20, 2, skill=skill))
    assert figures(sums)[name] == (1.0 if skill > 0 else 0.0)
    assert 0.05 < width(sums, name) < 0.5


def test_five_of_five_are_wilsons_own() -> None:
    low, high = intervals(right(np.ones(5, dtype=bool)))["accuracy"] or (0.0, 0.0)
    assert [low, high] == pytest.approx([0.5655, 1.0], abs=1e-4)


@pytest.mark.parametrize(("num_right", "number"), [(30, 50), (83, 100), (500, 600)])
def test_away_from_0_and_1_the_accuracys_interval_is_wilsons(num_right: int, number: int) -> None:
    theirs = stats.binomtest(num_right, number).proportion_ci(0.95, method="wilson")
    ours = intervals(right(np.arange(number) < num_right))["accuracy"]
    assert list(ours or ()) == pytest.approx([theirs.low, theirs.high])


@pytest.mark.parametrize(("number", "truth"), [(50, 0.98), (50, 0.99), (100, 0.99), (600, 0.995), (600, 0.999)])
def test_next_to_1_the_accuracys_interval_still_holds_the_truth(number: int, truth: float) -> None:
    ends = [wilson(count / number, number, 0.95) for count in range(number + 1)]
    holds = np.array([low <= truth <= high for low, high in ends])
    covered = stats.binom.pmf(np.arange(number + 1), number, truth)[holds].sum()
    assert covered >= 0.92


@pytest.mark.parametrize("name", FIGURES)
def test_intervals_shrink_with_the_root_of_the_number_of_images(name: str) -> None:
    widths = [width(score_sums(*scored(0, count)), name) for count in (400, 6400)]
    assert widths[0] / widths[1] == pytest.approx(4.0, rel=0.25)


@pytest.mark.parametrize(("num_classes", "skill"), [(2, 1.0), (3, 2.0)])
def test_intervals_cover_the_truth_about_as_often_as_they_say(num_classes: int, skill: float) -> None:
    truth = figures(score_sums(*scored(99, 50_000, num_classes, skill=skill)))
    trials = 100
    covered = dict.fromkeys(FIGURES, 0)
    for trial in range(trials):
        for name, bounds in intervals(score_sums(*scored(trial, 150, num_classes, skill=skill))).items():
            low, high = bounds or (1.0, 0.0)
            covered[name] += low <= truth[name] <= high
    assert min(covered.values()) >= 0.89 * trials


def test_a_higher_level_gives_a_wider_interval() -> None:
    sums = score_sums(*scored(0))
    for name in FIGURES:
        narrow, wide = (intervals(sums, level)[name] or (0.0, 0.0) for level in (0.5, 0.99))
        assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_no_image_has_no_interval_and_one_image_a_wide_one() -> None:
    assert intervals(blank_scores(3)) == dict.fromkeys(FIGURES)
    bounds = intervals(score_sums(np.array([[1.0, 0.0]]), np.array([0])))
    assert list(bounds["accuracy"] or ()) == pytest.approx([0.2065, 1.0], abs=1e-4)
    assert bounds["auc"] is None


def test_a_class_without_images_does_not_break_the_intervals() -> None:
    scores, labels = scored(0)
    sums = score_sums(scores[labels != 2], labels[labels != 2])
    assert all(intervals(sums).values())


@laws
@given(seeds, st.integers(2, 12))
def test_patients_whose_images_are_all_equal_count_as_one_image_each(seed: int, repeats: int) -> None:
    is_right = np.random.default_rng(seed).random(60) < 0.8
    patients = np.repeat(np.arange(60), repeats)
    ours = intervals(right(np.repeat(is_right, repeats), patients))["accuracy"] or (0.0, 0.0)
    alone = intervals(right(is_right))["accuracy"] or (0.0, 0.0)
    # A little longer: the variance was estimated over 60 patients, not over all images.
    assert alone[1] - alone[0] <= ours[1] - ours[0] <= 1.05 * (alone[1] - alone[0])


@laws
@given(seeds)
def test_patients_of_one_image_each_are_no_patients_at_all(seed: int) -> None:
    is_right = np.random.default_rng(seed).random(80) < 0.9
    known = right(is_right, np.random.default_rng(seed).permutation(80))
    assert intervals(known) == intervals(right(is_right))
    without = {key: value for key, value in known.items() if key != "patients"}
    for name, bounds in intervals(without).items():
        assert intervals(known)[name] == (pytest.approx(bounds) if bounds else None)


def test_patients_hardly_matter_if_their_images_are_not_alike() -> None:
    generator = np.random.default_rng(0)
    is_right = generator.random(3000) < 0.8
    patients = generator.integers(0, 1000, 3000)
    assert 1.0 <= width(right(is_right, patients)) / width(right(is_right)) < 1.1


def test_clustered_images_are_covered_by_intervals_that_know_patients_and_missed_by_those_that_do_not() -> None:
    covered = {"known": 0, "unknown": 0}
    for trial in range(200):
        generator = np.random.default_rng(trial)
        sizes = generator.integers(1, 12, 60)
        patients = np.repeat(np.arange(60), sizes)
        is_right = generator.random(len(patients)) < generator.beta(0.85, 0.15, 60)[patients]
        for name, known in (("known", patients), ("unknown", None)):
            low, high = intervals(right(is_right, known))["accuracy"] or (1.0, 0.0)
            covered[name] += low <= 0.85 <= high
    assert covered["known"] >= 0.92 * 200
    assert covered["unknown"] <= 0.75 * 200


def test_the_images_of_one_patient_are_worth_one_image() -> None:
    alone = right(np.ones(30, dtype=bool), np.zeros(30, dtype=np.int64))
    assert list(intervals(alone)["accuracy"] or ()) == pytest.approx([0.2065, 1.0], abs=1e-4)


def test_all_right_images_of_few_patients_are_worth_no_more_than_the_patients() -> None:
    patients = np.repeat(np.arange(10), 8)
    low, _ = intervals(right(np.ones(80, dtype=bool), patients))["accuracy"] or (1.0, 0.0)
    assert low <= wilson(1.0, 10, 0.95)[0]


@laws
@given(seeds, st.lists(st.integers(0, 100), max_size=4))
def test_sums_over_patients_add_up_over_sites(seed: int, cuts: list[int]) -> None:
    generator = np.random.default_rng(seed)
    patients = np.sort(generator.integers(0, 25, 200))
    is_right, linear = generator.random((2, 200)) < 0.7
    sites = np.searchsorted(patients, sorted(cut // 4 for cut in cuts))
    pieces = [np.split(values, sites) for values in (patients, is_right, linear)]
    enough = [len(set(piece.tolist())) not in (2, 3, 4) for piece in pieces[0]]
    added = add({"patients": patient_sums(*part)} for part in zip(*pieces, strict=True))["patients"]
    whole = patient_sums(patients, is_right, linear)
    if all(enough):
        assert added.tolist() == whole.tolist()
    else:
        assert added[0] < whole[0] and added[1] > whole[1]  # fewer patients with more images each: wider intervals


def test_the_sums_over_patients_by_hand() -> None:
    patients = np.array([7, 7, 7, 1, 1, 2, 3, 4, 5])
    is_right = np.array([1, 1, 0, 1, 0, 1, 1, 1, 0], dtype=bool)
    linear = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1], dtype=bool)
    # n: 3 2 1 1 1 1; c: 2 1 1 1 1 0; d: 2 -1 0 0 0 -1
    assert patient_sums(patients, is_right, linear).tolist() == [6, 17, 8, 11, 6, 3]


@pytest.mark.parametrize("number", [1, 4])
def test_fewer_than_five_patients_are_summed_up_as_one(number: int) -> None:
    patients = np.arange(12) % number
    is_right, linear = np.arange(12) < 9, np.arange(12) < 7
    assert patient_sums(patients, is_right, linear).tolist() == [1, 144, 81, 108, 4, 24]


@pytest.mark.parametrize("number", [1, 4])
def test_few_patients_are_summed_up_one_by_one_if_nothing_is_to_be_kept_private(number: int) -> None:
    patients = np.arange(12) % number
    is_right, linear = np.arange(12) < 9, np.arange(12) < 7
    assert patient_sums(patients, is_right, linear, fewest=1)[0] == number


def test_classes_that_are_all_right_still_vary_in_the_mean_recall() -> None:
    """Nine classes of two images, all right, add to the interval of one class of 60 that is half right."""
    labels = np.concatenate([np.repeat(np.arange(9), 2), np.full(60, 9)])
    named = np.where((labels == 9) & (np.arange(78) % 2 == 0), 0, labels)
    found = score_sums(9.0 * np.eye(10)[named], labels)
    one_class_alone = 1.96 * np.sqrt(0.25 / 60) / 10
    low, high = intervals(found)["balanced-accuracy"] or (0.0, 0.0)
    assert (high - low) / 2 > 1.5 * one_class_alone


def test_no_image_has_sums_of_zeros() -> None:
    nothing = np.zeros(0, dtype=bool)
    assert not patient_sums(None, nothing, nothing).any()
    assert not patient_sums(np.zeros(0, dtype=np.int64), nothing, nothing).any()


@given(st.floats(0.0, 1.0), st.floats(1.0, 50.0))
def test_scores_of_a_patient_are_as_alike_as_sheppards_relation_says(alike: float, size: float) -> None:
    is_right = 1.0 + (size - 1.0) * 2.0 / np.pi * np.arcsin(alike)
    assert effect_on_scores(is_right, size) == pytest.approx(1.0 + (size - 1.0) * alike, abs=1e-9)


def test_the_auc_of_patients_with_similar_scores_is_covered() -> None:
    """Each patient has one class, and scores that correlate by 0.6 between its images."""

    def draw(generator: np.random.Generator, number: int) -> dict[str, Array]:
        patients = np.repeat(np.arange(number), generator.integers(1, 9, number))
        labels = generator.integers(0, 2, number)[patients]
        own, noise = generator.standard_normal(number)[patients], generator.standard_normal(len(patients))
        raised = 0.9 * (2 * labels - 1) + np.sqrt(0.6) * own + np.sqrt(0.4) * noise
        scores = np.stack([np.zeros(len(raised)), 2.0 * raised], axis=1)
        is_right = scores.argmax(axis=1) == labels
        return score_sums(scores, labels) | {"patients": patient_sums(patients, is_right, is_right)}

    generator = np.random.default_rng(0)
    truth = figures(draw(generator, 20_000))["auc"]
    found = [intervals(draw(generator, 150))["auc"] or (0.0, 0.0) for _ in range(500)]
    held = np.mean([low <= truth <= high for low, high in found])
    assert 0.925 <= held <= 0.975  # 0.90 with the effect on shares of right images
