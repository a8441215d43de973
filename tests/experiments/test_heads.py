"""The experiment on heads: how sure a difference is, which head a rule ships, what a test catches."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from experiments.heads.abstaining import CAUGHT, best_temperature, threshold, whitening
from experiments.heads.choosing import Rule, choose, heads_under, is_guess, judge, split_sums
from experiments.heads.decision import SHIPS
from experiments.heads.embedded import site_of_each
from experiments.heads.pixels import distances, statistics
from experiments.heads.plan import MEASURES, QUANTILES, SETTINGS, TESTS, Cell, Prior
from experiments.heads.report import abstain_summary, chosen_table, share_kept, worst
from experiments.heads.results import Candidate, Reached
from fl_app.classification.heads import HEADS, Head, linear_head
from fl_app.classification.measuring import HeadSet, embeddings, measure_heads
from fl_app.classification.model import ClassifierModel
from fl_app.classification.moments import measure_moments, pool
from fl_app.data.images import DatasetInfo
from fl_app.errors import RunFolderError
from tests.classification.models import CPU, make_images, make_network


def made_up(num_images: int, num_classes: int, seed: int = 0, gain: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return scores [N, K] that tell the class somewhat, and labels [N]."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(num_classes, size=num_images)
    return generator.normal(size=(num_images, num_classes)) + gain * np.eye(num_classes)[labels], labels


@pytest.mark.parametrize("num_classes", [2, 4])
def test_figures_are_those_of_scikit_learn(num_classes: int) -> None:
    scores, labels = made_up(200, num_classes)
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    figures = judge(scores, labels)
    chosen = shares[:, 1] if num_classes == 2 else shares
    assert figures["auc"] == pytest.approx(roc_auc_score(labels, chosen, multi_class="ovr"))
    assert figures["balanced-accuracy"] == pytest.approx(balanced_accuracy_score(labels, scores.argmax(axis=1)))
    assert figures["accuracy"] == (scores.argmax(axis=1) == labels).mean()


def test_shares_of_classes_weigh_the_accuracy() -> None:
    scores = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])  # classes 0, 0, 1, 1: one right of each two
    labels = np.array([0, 0, 1, 1])
    scores[2] = [1.0, 0.0]  # class 1: none
    assert judge(scores, labels)["accuracy"] == 0.25
    assert judge(scores, labels, {0: 0.8, 1: 0.2})["accuracy"] == pytest.approx(0.4)


def test_an_auc_needs_images_on_both_sides() -> None:
    assert np.isnan(judge(np.zeros((3, 2)), np.array([1, 1, 1]))["auc"])


@pytest.mark.parametrize("prior", ["training", "equal"])
def test_a_node_sends_the_sums_that_the_program_measures(prior: Prior) -> None:
    network, images = make_network(1), make_images((14, 3, 9), 1)
    pooled = pool(measure_moments(network, make_images((20, 15, 12), seed), CPU, 1) for seed in (0, 2))
    layer = [getattr(network.linear, name).detach().double().numpy() for name in ("weight", "bias")]
    linear = linear_head(layer[0], layer[1], [True] * 3)
    info = DatasetInfo(images.class_names, 1, 8)
    classifier = ClassifierModel("cnn", 6, info, {}, pooled, {"linear": linear}, "linear", "consistent", 0.1, None, {})
    heads = heads_under(classifier, prior)
    others = {name: head for name, head in heads.items() if name != "linear"}
    assert len(others) == len(HEADS) - 1
    by_source = {"global": {"linear": linear}, "consistent": others}
    head_set = HeadSet(by_source, np.zeros((3, 6)), np.ones(3, dtype=np.bool_), with_joint=True)
    measured = measure_heads(network, None, head_set, ("consistent",), {"validation": images}, CPU)
    features = np.concatenate([part for part, _ in embeddings(network, images, CPU)])
    scores = {name: head.scores(features) for name, head in heads.items()}
    found = split_sums(scores, images.labels.numpy(), np.full(26, 4))["site-4"]
    for key in found.keys() - {"validation/distance", "validation/picture-distance"}:
        np.testing.assert_allclose(found[key], measured[key], err_msg=key)
    assert found.keys() == {key for key in measured if key.startswith("validation/")}


NO_WEIGHTS = {name: Head(np.zeros((2, 1)), np.zeros(2)) for name in ("linear", "lda")}
ONE_SITE = np.zeros(60, dtype=np.int64)


def ships(rule: Rule, linear: np.ndarray, lda: np.ndarray, sites: np.ndarray = ONE_SITE) -> str:
    """Return what ships if the heads are right so often; 60 images of two classes in turn."""
    labels = np.arange(60) % 2
    scores = {
        name: np.eye(2)[np.where(right, labels, 1 - labels)] for name, right in (("linear", linear), ("lda", lda))
    }
    return choose(rule, NO_WEIGHTS, split_sums(scores, labels, sites)).head


def test_a_head_replaces_linear_only_if_it_is_better_beyond_the_interval() -> None:
    # 6 images more are right of 60. With one added on either side of 62: 6 / 62 and its error,
    # sqrt(8 - 36 / 62) / 62, so it is 2.20 errors above 0: below the 2.24 of 97.5 %, above the 1.96 of 95 %.
    linear, lda = np.arange(60) < 40, np.arange(60) < 46
    assert ships(Rule("accuracy", "training", 0.95), linear, lda) == "lda"
    assert ships(Rule("accuracy", "training", 0.975), linear, lda) == "linear"
    assert ships(Rule("accuracy", "training", 0.0), linear, lda) == "lda"


def test_level_zero_ships_the_best_head_and_linear_on_ties() -> None:
    linear = np.arange(60) < 40
    assert ships(Rule("accuracy", "training", 0.0), linear, linear[::-1]) == "linear"
    assert ships(Rule("accuracy", "training", 0.0), linear, np.arange(60) < 41) == "lda"


def test_a_linear_head_that_guesses_is_replaced_by_any_better_one() -> None:
    rule, guesses = Rule("balanced-accuracy", "equal", 0.95), np.arange(60) % 2 == 0  # names class 0 alone
    barely = guesses | (np.arange(60) == 1)
    assert ships(rule, guesses, barely) == "lda"
    assert ships(rule, barely, barely | (np.arange(60) == 3)) == "linear"
    labels = np.arange(60) % 2
    for right, expected in ((guesses, True), (barely, False)):
        scores = {"linear": np.eye(2)[np.where(right, labels, 1 - labels)]}
        assert is_guess("balanced-accuracy", split_sums(scores, labels, ONE_SITE)) is expected


def test_a_site_that_contradicts_all_others_is_put_to_the_vote() -> None:
    rule, sites = Rule("accuracy", "equal", 0.68), np.repeat(np.arange(3), 20)
    linear = np.arange(60) < 40  # site 2 finds every image of `linear` wrong, and every one of `lda` right
    lda = ~np.isin(np.arange(60), [0, 1, 2, 3, 4, 20, 21, 22, 23, 24])
    assert ships(rule, linear, lda) == "lda"
    assert ships(rule, linear, lda, sites) == "linear"


def run_folder(folder: Path, validation: list[list[int]]) -> Path:
    """Write the run.json of a cell whose nodes say that they hold so many images of each class out."""
    nodes = {f"site-{n}": {"train": [9, 9], "validation": counts} for n, counts in enumerate(validation)}
    document = json.loads((Path(__file__).parents[1] / "old_runs" / "finished" / "run.json").read_text())
    (folder / CELL.name).mkdir()
    (folder / CELL.name / "run.json").write_text(json.dumps(document | {"nodes": nodes}))
    return folder


CELL = Cell("breastmnist", 0.5, 0)


def test_held_out_images_belong_to_the_nodes_that_told_of_them(tmp_path: Path) -> None:
    out, labels = run_folder(tmp_path, [[1, 2], [0, 0], [0, 1], [2, 0], [0, 0]]), np.array([1, 0, 1, 1, 0, 0])
    assert site_of_each(CELL, out, labels).tolist() == [0, 0, 0, 2, 3, 3]
    for other in (labels[:5], labels[::-1]):
        with pytest.raises(RunFolderError, match="other held-out images"):
            site_of_each(CELL, out, other)


def test_held_out_images_of_no_node_are_of_one_site(tmp_path: Path) -> None:
    out = run_folder(tmp_path, [[0, 0]] * 5)
    assert site_of_each(CELL, out, np.array([1, 0, 1])).tolist() == [0, 0, 0]


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
    classifier = ClassifierModel(
        "cnn", 3, DatasetInfo(("a",), 1, 8), {}, pooled, {}, "lda", "consistent", 0.0, None, {}
    )
    assert np.cov((f @ whitening(classifier)).T, bias=True) == pytest.approx(np.eye(3), abs=1e-9)


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
    assert row.startswith("| Fashion-MNIST, Dirichlet 0.1 | 50 % | 0 % | 0 % | +7.50 [")
    assert row.count("; 75 % |") == len(MEASURES)
