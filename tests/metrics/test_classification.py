"""Laws of a classifier's figures, and agreement with MedMNIST's own evaluator and scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from medmnist.evaluator import getACC, getAUC
from scipy.special import log_softmax, softmax
from sklearn import metrics as sklearn_metrics
from torchmetrics.classification import MulticlassAUROC

from benchmarks.exact_auc import exact_auc
from fl_app.errors import FlAppError
from fl_app.metrics.classification import (
    TEMPERATURES,
    best_temperature,
    blank_scores,
    figures,
    score_sums,
    stretched_logits,
)
from fl_app.sums import add
from tests.metrics.scores import scored

laws = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)
FIGURES = ("accuracy", "balanced-accuracy", "auc", "macro-f1")


@laws
@given(seeds, st.lists(st.integers(0, 300), max_size=6))
def test_any_split_adds_up_to_the_sums_of_all_images(seed: int, cuts: list[int]) -> None:
    scores, labels = scored(seed)
    parts = zip(np.split(scores, sorted(cuts)), np.split(labels, sorted(cuts)), strict=True)
    added, whole = add(score_sums(*part) for part in parts), score_sums(scores, labels)
    assert added.keys() == whole.keys()
    for key in ("confusion", "auroc", "nll-count"):
        assert np.array_equal(added[key], whole[key])
    assert added["nll"] == pytest.approx(float(whole["nll"]), rel=1e-12)


@laws
@given(seeds, st.floats(-50.0, 50.0))
def test_what_is_added_to_all_scores_of_an_image_does_not_matter(seed: int, constant: float) -> None:
    scores, labels = scored(seed)
    one, other = (figures(score_sums(values, labels)) for values in (scores, scores + constant))
    assert one.pop("nll") == pytest.approx(other.pop("nll"), rel=1e-9)
    assert one.pop("auc") == pytest.approx(other.pop("auc"), abs=1e-3)  # rounding may move a score across a threshold
    assert one == other


@laws
@given(seeds, st.sampled_from([2, 3, 10]), st.sampled_from([1.0, 3.0, 10.0]))
def test_figures_agree_with_medmnists_own_evaluator(seed: int, num_classes: int, certainty: float) -> None:
    scores, labels = scored(seed, 2000, num_classes, certainty)
    task = "binary-class" if num_classes == 2 else "multi-class"
    probabilities, column = softmax(scores, axis=1), labels[:, None]
    ours = figures(score_sums(scores, labels))
    assert ours["accuracy"] == getACC(column, probabilities, task)
    # Scores in one bin count as ties: that, and nothing else, sets the AUCs apart.
    assert ours["auc"] == pytest.approx(getAUC(column, probabilities, task), abs=4e-3)


@pytest.mark.parametrize("num_classes", [2, 10])
@pytest.mark.parametrize("spread", [10.0, 100.0, 300.0])
def test_the_auc_holds_for_squared_distances(num_classes: int, spread: float) -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, num_classes, 5000)
    scores = -spread * generator.chisquare(4, (5000, num_classes))
    scores[np.arange(5000), labels] += 2 * spread
    assert figures(score_sums(scores, labels))["auc"] == pytest.approx(exact_auc(scores, labels), abs=3e-3)


@pytest.mark.parametrize("num_classes", [2, 10])
@pytest.mark.parametrize("certainty", [0.1, 30.0])
def test_the_auc_holds_for_timid_and_overconfident_scores(num_classes: int, certainty: float) -> None:
    scores, labels = scored(0, 5000, num_classes, certainty)
    assert figures(score_sums(scores, labels))["auc"] == pytest.approx(exact_auc(scores, labels), abs=3e-3)


@laws
@given(seeds, st.integers(0, 3))
def test_figures_agree_with_scikit_learn(seed: int, absent: int) -> None:
    scores, labels = scored(seed)
    scores, labels = scores[labels != absent], labels[labels != absent]
    present = [c for c in range(4) if c != absent]
    predicted, ours = scores.argmax(axis=1), figures(score_sums(scores, labels))
    recalls = sklearn_metrics.recall_score(labels, predicted, labels=present, average="macro")
    assert ours["balanced-accuracy"] == pytest.approx(recalls)
    f1 = sklearn_metrics.f1_score(labels, predicted, labels=present, average="macro")
    assert ours["macro-f1"] == pytest.approx(f1)
    assert ours["nll"] == pytest.approx(sklearn_metrics.log_loss(labels, softmax(scores, axis=1), labels=range(4)))
    probabilities = softmax(scores, axis=1)
    aucs = [sklearn_metrics.roc_auc_score(labels == c, probabilities[:, c]) for c in present]
    assert ours["auc"] == pytest.approx(np.mean(aucs), abs=5e-3)


def test_figures_by_hand() -> None:
    scores = np.log(np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1], [0.6, 0.3, 0.1]]))
    ours = figures(score_sums(scores, np.array([0, 0, 1, 0])))
    assert (ours["n"], ours["support"]) == (4, [3, 1, 0])
    assert ours["accuracy"] == 0.75
    assert ours["balanced-accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert ours["macro-f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert ours["auc"] == pytest.approx(
        (2 / 3 + 2 / 3) / 2
    )  # each class has one of its three pairs the wrong way round
    assert ours["nll"] == pytest.approx(-np.log([0.8, 0.2, 0.6, 0.6]).mean())


def test_with_two_classes_the_auc_is_that_of_class_1() -> None:
    scores = np.array([[0.0, 3.0], [0.0, 1.0], [0.0, -1.0], [0.0, -3.0]])
    assert figures(score_sums(scores, np.array([1, 0, 1, 0])))["auc"] == 0.75


def test_equal_scores_are_predicted_as_the_smallest_class_and_rank_nothing() -> None:
    sums = score_sums(np.zeros((4, 2)), np.array([0, 0, 1, 1]))
    assert sums["confusion"].tolist() == [[2.0, 0.0], [2.0, 0.0]]
    assert figures(sums)["auc"] == 0.5


def test_no_image_has_sums_of_zeros_and_no_figures() -> None:
    sums = score_sums(np.zeros((0, 3)), np.zeros(0, dtype=np.int64))
    blank = blank_scores(3)
    assert all(np.array_equal(sums[key], blank[key]) for key in blank)
    nothing = dict.fromkeys((*FIGURES, "nll"))
    assert figures(sums) == {"n": 0, "support": [0, 0, 0], **nothing}


def test_blank_sums_have_the_names_shapes_and_types_of_measured_ones() -> None:
    measured, blank = score_sums(*scored(0)), blank_scores(4)
    assert {key: (value.shape, value.dtype) for key, value in measured.items()} == {
        key: (value.shape, value.dtype) for key, value in blank.items()
    }


def test_one_image_has_an_accuracy_and_no_auc() -> None:
    ours = figures(score_sums(np.array([[1.0, 0.0, 0.0]]), np.array([0])))
    assert (ours["n"], ours["accuracy"], ours["balanced-accuracy"], ours["macro-f1"]) == (1, 1.0, 1.0, 1.0)
    assert ours["auc"] is None


@pytest.mark.parametrize("count", [0, 3])
def test_a_data_set_of_one_class_has_no_auc(count: int) -> None:
    sums = score_sums(np.zeros((count, 1)), np.zeros(count, dtype=np.int64))
    ours = figures(sums)
    assert ours["auc"] is None
    assert ours["accuracy"] == (1.0 if count else None)


def test_an_image_of_an_excluded_class_is_wrong_and_has_no_likelihood() -> None:
    scores = np.array([[0.0, -np.inf, 0.0], [2.0, -np.inf, 0.0]])
    sums = score_sums(scores, np.array([1, 0]))
    assert figures(sums)["accuracy"] == 0.5
    assert sums["nll-count"] == 1
    assert figures(sums)["nll"] == pytest.approx(np.log1p(np.exp(-2.0)))


@pytest.mark.parametrize("row", [[np.nan, 0.0], [np.inf, 0.0], [-np.inf, -np.inf]])
def test_scores_that_rank_nothing_are_refused(row: list[float]) -> None:
    with pytest.raises(FlAppError, match="not finite"):
        score_sums(np.array([row]), np.array([0]))


def test_the_state_of_the_auc_is_torchmetrics_own() -> None:
    scores, labels = scored(0, 1500)
    state = score_sums(scores, labels)["auroc"]
    theirs = MulticlassAUROC(scores.shape[1], thresholds=torch.linspace(0, 1, len(state), dtype=torch.float64))
    stretched = stretched_logits(log_softmax(scores, axis=1))
    theirs.update(torch.from_numpy(stretched), torch.from_numpy(labels))
    assert np.array_equal(state, theirs.confmat.numpy())


def test_the_best_temperature_takes_back_what_a_head_is_too_sure() -> None:
    scores, labels = scored(0, 4000)
    sure, surer = (best_temperature(score_sums(factor * scores, labels)) for factor in (5.0, 100.0))
    assert sure is not None
    assert sure > 1.0
    assert surer == pytest.approx(20.0 * sure, rel=0.3)  # the grid's step is a quarter


def test_the_best_temperature_gives_back_what_a_head_is_too_timid() -> None:
    scores, labels = scored(0, 4000)
    plain, timid = (best_temperature(score_sums(factor * scores, labels)) for factor in (1.0, 0.25))
    assert plain is not None and timid is not None
    assert timid < 1.0
    assert timid == pytest.approx(0.25 * plain, rel=0.15)


def test_a_plain_softmax_of_the_truth_keeps_temperature_1() -> None:
    generator = np.random.default_rng(0)
    scores = generator.standard_normal((20_000, 4))
    labels = (scores + generator.gumbel(size=scores.shape)).argmax(axis=1)
    assert best_temperature(score_sums(scores, labels)) == 1.0


@pytest.mark.parametrize("factor", [0.02, 1.0, 50.0])
@pytest.mark.parametrize("count", [3, 20, 200])
def test_a_few_images_that_are_all_right_ask_for_no_certainty(count: int, factor: float) -> None:
    scores = factor * np.tile([4.0, 0.0, -1000.0], (count, 1))
    temperature = best_temperature(score_sums(scores, np.zeros(count, dtype=np.int64)))
    assert temperature is not None
    sure = softmax(scores[0] / temperature)[0]
    # One image more, which is wrong: n of n + 1, to within half a step of the temperatures or at their end.
    logit, step = np.log(count), 10.0**0.06
    at_the_end = temperature in (TEMPERATURES[0], TEMPERATURES[-1])
    assert 1.0 / (1.0 + np.exp(-logit / step)) <= sure <= 1.0 / (1.0 + np.exp(-logit * step)) or at_the_end
    assert sure <= (count + 1.0) / (count + 2.0) + 0.03


def test_a_head_that_knows_one_class_alone_keeps_temperature_1() -> None:
    scores = np.tile([3.0, -np.inf], (5, 1))
    assert best_temperature(score_sums(scores, np.zeros(5, dtype=np.int64))) == 1.0


def test_the_likelihoods_at_temperature_1_are_the_plain_ones() -> None:
    sums = score_sums(*scored(0))
    assert sums["nll-tempered"][TEMPERATURES == 1.0].tolist() == [pytest.approx(float(sums["nll"]))]


def test_without_images_there_is_no_best_temperature() -> None:
    assert best_temperature(blank_scores(3)) is None


def test_arrays_that_cannot_be_written_are_measured() -> None:
    scores, labels = scored(0)
    scores.setflags(write=False)
    labels.setflags(write=False)
    assert figures(score_sums(scores, labels))["n"] == 300


def test_measuring_does_not_touch_the_random_state() -> None:
    before = torch.get_rng_state()
    score_sums(*scored(0))
    assert torch.equal(torch.get_rng_state(), before)
