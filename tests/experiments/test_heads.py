"""The experiment on heads: how sure a difference is, which head a rule ships, what a test catches."""

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from experiments.heads.abstaining import CAUGHT, best_temperature, threshold, whitening
from experiments.heads.choosing import Judged, Rule, auc_parts, choose, judge, standard_error
from experiments.heads.decision import SHIPS
from experiments.heads.pixels import distances, statistics
from experiments.heads.plan import MEASURES, QUANTILES, SETTINGS, TESTS
from experiments.heads.report import abstain_summary, chosen_table, share_kept, worst
from experiments.heads.results import Candidate, Reached
from fl_app.classification.bundle import Bundle
from fl_app.data.images import DatasetInfo


def made_up(num_images: int, num_classes: int, seed: int = 0, gain: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return scores [N, K] that tell the class somewhat, and labels [N]."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(num_classes, size=num_images)
    return generator.normal(size=(num_images, num_classes)) + gain * np.eye(num_classes)[labels], labels


@pytest.mark.parametrize("num_classes", [2, 4])
def test_figures_are_those_of_scikit_learn(num_classes: int) -> None:
    scores, labels = made_up(200, num_classes)
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    figures = judge(scores, labels).figures
    chosen = shares[:, 1] if num_classes == 2 else shares
    assert figures["auc"] == pytest.approx(roc_auc_score(labels, chosen, multi_class="ovr"))
    assert figures["balanced-accuracy"] == pytest.approx(balanced_accuracy_score(labels, scores.argmax(axis=1)))
    assert figures["accuracy"] == (scores.argmax(axis=1) == labels).mean()


def test_shares_of_classes_weigh_the_accuracy() -> None:
    scores = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])  # classes 0, 0, 1, 1: one right of each two
    labels = np.array([0, 0, 1, 1])
    scores[2] = [1.0, 0.0]  # class 1: none
    assert judge(scores, labels).figures["accuracy"] == 0.25
    assert judge(scores, labels, {0: 0.8, 1: 0.2}).figures["accuracy"] == pytest.approx(0.4)


def test_the_error_of_an_accuracy_difference_is_worked_by_hand() -> None:
    # 3 images that only ours gets right, 1 that only theirs does, of 10: sqrt(4 - 4 / 10) / 10
    ours, theirs = (np.array(values, dtype=bool) for values in ([1] * 3 + [0] + [1] * 6, [0] * 3 + [1] + [1] * 6))
    labels = np.zeros(10, dtype=np.int64)
    pair = [Judged(labels, is_right, np.zeros(10), {}) for is_right in (ours, theirs)]
    assert standard_error("accuracy", *pair) == pytest.approx(np.sqrt(4 - 4 / 10) / 10)
    assert standard_error("balanced-accuracy", *pair) == pytest.approx(np.sqrt(4 - 4 / 10) / 10)  # one class alone


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("measure", ["accuracy", "balanced-accuracy", "auc"])
def test_the_error_is_the_spread_over_resampled_images(measure: str, num_classes: int) -> None:
    generator = np.random.default_rng(1)
    found, errors = [], []
    for seed in range(200):
        scores, labels = made_up(100, num_classes, seed)
        others = scores + generator.normal(size=scores.shape)
        ours, theirs = judge(scores, labels), judge(others, labels)
        found.append(ours.figures[measure] - theirs.figures[measure])  # type: ignore[index]
        errors.append(standard_error(measure, ours, theirs))  # type: ignore[arg-type]
    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.12)


def test_an_auc_needs_images_on_both_sides() -> None:
    assert np.isnan(auc_parts(np.zeros((3, 2)), np.array([1, 1, 1]))).all()


def heads(linear: list[int], lda: list[int]) -> dict[str, Judged]:
    """Return two heads by whether each of the images, all of class 0, is right."""
    found = {}
    for name, is_right in (("linear", linear), ("lda", lda)):
        right = np.array(is_right, dtype=bool)
        accuracy = float(right.mean())
        figures = {"accuracy": accuracy, "balanced-accuracy": accuracy, "auc": 0.5}
        found[name] = Judged(np.zeros(len(right), dtype=np.int64), right, np.zeros(len(right)), figures)  # type: ignore[arg-type]
    return found


def test_a_head_replaces_linear_only_if_it_is_better_beyond_the_interval() -> None:
    # 3 more right of 10, and none less: the error is sqrt(3 - 9 / 10) / 10 = 0.145, so 0.3 is 2.07 errors
    judged = heads([0] * 5 + [1] * 5, [0] * 2 + [1] * 8)
    assert choose(Rule("accuracy", "training", 0.95), judged) == "lda"
    assert choose(Rule("accuracy", "training", 0.97), judged) == "linear"
    assert choose(Rule("accuracy", "training", 0.0), judged) == "lda"


def test_level_zero_ships_the_best_head_and_linear_on_ties() -> None:
    assert choose(Rule("accuracy", "training", 0.0), heads([0, 1], [1, 0])) == "linear"
    assert choose(Rule("accuracy", "training", 0.5), heads([1, 1], [0, 1])) == "linear"


def test_a_threshold_gives_the_share_of_held_out_images_an_answer() -> None:
    values = np.random.default_rng(0).permutation(100).astype(np.float64)
    assert (values <= threshold(values, 0.95)).sum() == 95
    assert threshold(values[:7], 0.99) == values[:7].max()


def test_a_temperature_below_one_makes_a_doubtful_head_surer() -> None:
    scores, labels = made_up(500, 3, gain=3.0)
    assert best_temperature(0.01 * scores, labels) == 0.05
    assert best_temperature(100 * scores, labels) == pytest.approx(100 * best_temperature(scores, labels), rel=0.15)


def test_whitened_embeddings_of_a_class_have_unit_variance() -> None:
    generator = np.random.default_rng(0)
    f = generator.normal(size=(4000, 3)) @ np.array([[3.0, 1.0, 0.0], [0.0, 0.5, 0.2], [0.0, 0.0, 2.0]])
    pooled = {"count": np.array([4000.0]), "sum": f.sum(axis=0)[None], "outer": f.T @ f}
    bundle = Bundle("cnn", 3, DatasetInfo(("a",), 1, 8), {}, pooled, {}, "lda", "consistent", 0.0, None, {})
    assert np.cov((f @ whitening(bundle)).T, bias=True) == pytest.approx(np.eye(3), abs=1e-9)


def test_noise_is_rough_and_a_constant_image_has_the_least_contrast() -> None:
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 1, 64, 64), dtype=np.uint8))
    constant, slope = torch.full((1, 1, 64, 64), 128, dtype=torch.uint8), torch.arange(0, 256, 4, dtype=torch.uint8)
    found = statistics(torch.cat([noise, constant, slope.expand(1, 1, 64, 64)]))
    assert np.exp(found[0, 2]) == pytest.approx(2.0, rel=0.05)  # neighbours differ by twice the variance
    assert np.exp(found[2, 2]) < 0.01
    assert found[1] == pytest.approx([128 / 255, -np.log(255.0), 0.0])


def test_distances_of_pictures_are_those_of_mahalanobis_and_sums_of_nodes_add_up() -> None:
    values = np.random.default_rng(0).normal(size=(500, 3)) @ np.diag([1.0, 2.0, 5.0]) + 3.0
    parts = [(len(part), part.sum(axis=0), part.T @ part) for part in (values[:100], values[100:])]
    found = distances(values, *(sum(items) for items in zip(*parts, strict=True)))
    assert (found**2).mean() == pytest.approx(3.0)


def reached(*gains: tuple[float, float]) -> dict[int, Reached]:
    """Return seeds in which `lda` has so much more accuracy than `linear`, and a rule keeps so much of it."""
    rule = Rule("accuracy", "training", 0.0)
    found = {}
    for seed, (lda, kept) in enumerate(gains):
        heads: dict[Candidate, float] = {("linear", "training"): 0.5, ("lda", "training"): 0.5 + lda}
        figures = {name: dict.fromkeys(MEASURES, value) for name, value in heads.items()}
        found[seed] = Reached(figures, {rule: dict.fromkeys(MEASURES, 0.5 + kept)}, {rule: 1.0}, 10, 10)
    return found


def test_the_share_kept_is_that_of_the_means_and_only_of_a_large_gain() -> None:
    rule = Rule("accuracy", "training", 0.0)
    assert share_kept(reached((0.10, 0.10), (0.10, 0.05)), rule, "accuracy") == pytest.approx(0.75)
    assert share_kept(reached((0.02, 0.02), (0.01, 0.01)), rule, "accuracy") is None


def test_the_worst_setting_counts() -> None:
    rule = Rule("accuracy", "training", 0.0)
    found = {SETTINGS[0]: reached((0.1, 0.1)), SETTINGS[1]: reached((0.04, -0.01)), SETTINGS[2]: reached((0.0, 0.0))}
    assert worst(found, rule, "accuracy") == pytest.approx((-1.0, -0.25))


def test_the_summary_of_tests_shows_the_worst_kind_of_data_and_the_worst_run() -> None:
    def run(strange: float, right: float) -> dict[str, float]:
        return {**dict.fromkeys(CAUGHT, strange), "right answers": right}

    runs = {"poor": [run(0.4, 0.02), run(0.6, 0.08)], "good": [run(0.9, 0.01), run(0.3, 0.01), run(1.0, 0.09)]}
    caught = {(kind, level, test): seeds for kind, seeds in runs.items() for level in QUANTILES for test in TESTS}
    row = abstain_summary(caught).splitlines()[2]
    assert row == "| euclid | 99% | " + "50.0 [30.0] | " * 5 + "5.0 [9.0] |"


def test_the_table_of_the_chosen_rule_shows_difference_and_share_kept() -> None:
    found = {SETTINGS[0]: reached((0.10, 0.10), (0.10, 0.05))}
    for seed in found[SETTINGS[0]].values():
        seed.rules[SHIPS], seed.shipped[SHIPS] = seed.rules[Rule("accuracy", "training", 0.0)], 0.5
    row = chosen_table(found).splitlines()[2]
    assert row.startswith("| Fashion-MNIST, Dirichlet 0.1 | 50 % | +7.50 [")
    assert row.count("; 75 % |") == len(MEASURES)
