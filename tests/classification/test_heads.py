"""Laws of the heads that are built from pooled moments, and numbers worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import mahalanobis
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from fl_app.classification.heads import (
    HEADS,
    Head,
    build_heads,
    distance_map,
    linear_head,
    nearest_distance,
    predict,
)
from fl_app.classification.moments import blank_moments, pool
from fl_app.errors import FlAppError

Array = NDArray[np.float64]
K, D = 4, 5
BUILT = HEADS[1:]
laws = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def moments(f: Array, labels: NDArray[np.int64], num_classes: int = K) -> dict[str, Array]:
    """The moments of embeddings [N, D], straight from their definition."""
    sums = blank_moments(num_classes, f.shape[1])
    for c in range(num_classes):
        sums["count"][c] = (labels == c).sum()
        sums["sum"][c] = f[labels == c].sum(axis=0)
    sums["outer"] += f.T @ f
    return sums


def embeddings(seed: int, count: int = 80, classes: int = K) -> tuple[Array, NDArray[np.int64]]:
    """Embeddings after a ReLU, and labels."""
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), generator.integers(0, classes, count - classes)])
    centers = 2.0 * generator.standard_normal((classes, D)) + 0.5
    return np.maximum(centers[labels] + generator.standard_normal((count, D)), 0.0), labels


def pooled_over_sites(f: Array, labels: NDArray[np.int64], num_sites: int, seed: int = 0) -> dict[str, Array]:
    site = np.random.default_rng(seed).integers(0, num_sites, len(f))
    return pool(moments(f[site == k], labels[site == k]) for k in range(num_sites))


def heads_of(pooled: dict[str, Array], shrinkage: float = 0.1) -> dict[str, Head]:
    heads, reasons = build_heads(pooled, shrinkage)
    assert reasons == {}
    return heads


def without_constant(scores: Array) -> Array:
    """Scores up to what is the same for all classes of an image."""
    return np.asarray(scores - scores.mean(axis=1, keepdims=True))


@laws
@given(seeds, st.integers(1, 12))
def test_heads_do_not_depend_on_the_split(seed: int, num_sites: int) -> None:
    f, labels = embeddings(seed)
    federated, _ = build_heads(pooled_over_sites(f, labels, num_sites, seed), 0.1)
    central, _ = build_heads(pool([moments(f, labels)]), 0.1)
    for name in ("nearest-mean", "cosine", "lda"):
        np.testing.assert_allclose(federated[name].scores(f), central[name].scores(f), rtol=1e-8, atol=1e-8)


@laws
@given(seeds, st.floats(0.01, 100.0))
def test_the_unit_of_the_embedding_does_not_matter(seed: int, unit: float) -> None:
    f, labels = embeddings(seed)
    heads, scaled = (heads_of(pooled_over_sites(scale * f, labels, 5)) for scale in (1.0, unit))
    for name in BUILT:
        np.testing.assert_allclose(scaled[name].scores(unit * f), heads[name].scores(f), rtol=1e-7, atol=1e-7)


@laws
@given(seeds, st.integers(0, K - 1))
def test_no_head_ever_predicts_an_absent_class(seed: int, absent: int) -> None:
    f, labels = embeddings(seed)
    pooled = pooled_over_sites(f[labels != absent], labels[labels != absent], 5)
    heads = heads_of(pooled)
    heads["linear"] = linear_head(np.zeros((K, D)), np.eye(K)[absent], (pooled["count"] > 0).tolist())
    assert set(heads) == set(HEADS)
    dead = np.zeros((1, D))
    for head in heads.values():
        scores = head.scores(np.concatenate([f, dead, -f]))
        assert absent not in predict(scores)
        assert (scores[:, absent] == -np.inf).all()
        assert np.isfinite(np.delete(scores, absent, axis=1)).all()


@laws
@given(seeds)
def test_the_nearest_means_winner_is_the_one_at_the_smallest_distance(seed: int) -> None:
    f, labels = embeddings(seed)
    pooled = pooled_over_sites(f, labels, 3)
    means = np.stack([f[labels == c].mean(axis=0) for c in range(K)])
    distances = np.linalg.norm(f[:, None] - means, axis=2)
    assert predict(heads_of(pooled)["nearest-mean"].scores(f)).tolist() == distances.argmin(axis=1).tolist()


@laws
@given(seeds)
def test_nearest_mean_scores_are_log_densities_of_round_gaussians_but_for_a_constant(seed: int) -> None:
    f, labels = embeddings(seed)
    means = np.stack([f[labels == c].mean(axis=0) for c in range(K)])
    variance = ((f - means[labels]) ** 2).mean()
    densities = -0.5 * ((f[:, None] - means) ** 2).sum(axis=2) / variance
    scores = heads_of(pooled_over_sites(f, labels, 3))["nearest-mean"].scores(f)
    np.testing.assert_allclose(without_constant(scores), without_constant(densities), rtol=1e-8, atol=1e-8)


@laws
@given(seeds)
def test_lda_scores_are_log_posteriors_but_for_a_constant(seed: int) -> None:
    f, labels = embeddings(seed)
    means = np.stack([f[labels == c].mean(axis=0) for c in range(K)])
    within = (f - means[labels]).T @ (f - means[labels]) / len(f)
    covariance = within + 0.1 * np.trace(within) / D * np.eye(D)
    offsets = f[:, None] - means
    posteriors = np.log(np.bincount(labels) / len(f)) - 0.5 * np.einsum(
        "nki,ij,nkj->nk", offsets, np.linalg.inv(covariance), offsets
    )
    scores = heads_of(pooled_over_sites(f, labels, 3))["lda"].scores(f)
    np.testing.assert_allclose(without_constant(scores), without_constant(posteriors), rtol=1e-7, atol=1e-7)


def test_lda_without_shrinkage_agrees_with_scikit_learn() -> None:
    f, labels = embeddings(0)
    expected = LinearDiscriminantAnalysis(solver="lsqr").fit(f, labels).decision_function(f)
    scores = heads_of(pooled_over_sites(f, labels, 40), shrinkage=0.0)["lda"].scores(f)
    np.testing.assert_allclose(scores, expected, rtol=1e-8, atol=1e-8)


@laws
@given(seeds)
def test_cosine_scores_are_cosines_and_do_not_depend_on_the_length_of_an_embedding(seed: int) -> None:
    f, labels = embeddings(seed)
    pooled = pooled_over_sites(f, labels, 3)
    f = f[f.any(axis=1)]
    means = pooled["sum"] / pooled["count"][:, None]
    cosines = f @ means.T / np.outer(np.linalg.norm(f, axis=1), np.linalg.norm(means, axis=1))
    scores = heads_of(pooled)["cosine"].scores(f)
    np.testing.assert_allclose(scores, 20.0 * cosines, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(heads_of(pooled)["cosine"].scores(3.0 * f), scores, rtol=1e-10, atol=1e-10)


@laws
@given(seeds)
def test_fedcof_of_sites_with_one_image_each_knows_the_scatter_within_classes(seed: int) -> None:
    f, labels = embeddings(seed)
    pooled = pool(moments(f[i : i + 1], labels[i : i + 1]) for i in range(len(f)))
    means = np.stack([f[labels == c].mean(axis=0) for c in range(K)])
    scatter = (f - means[labels]).T @ (f - means[labels])
    gram = scatter + 0.1 * np.trace(scatter) / D * np.eye(D) + len(f) * np.outer(f.mean(axis=0), f.mean(axis=0))
    weight = pooled["sum"] @ np.linalg.inv(gram)
    weight /= np.linalg.norm(weight, axis=1, keepdims=True)
    deviation = np.sqrt(np.trace(scatter) / (len(f) - K) / D)
    np.testing.assert_allclose(heads_of(pooled)["fedcof"].weight, weight / deviation, rtol=1e-7, atol=1e-7)


def two_sites_of_two_classes() -> dict[str, Array]:
    """One image a site and class: means (1, 1) and (1, -1), scatter diag(2, 0) and diag(0, 8), overall mean (1, 0)."""
    labels = np.array([0, 1])
    first = moments(np.array([[0.0, 1.0], [1.0, -3.0]]), labels, 2)
    second = moments(np.array([[2.0, 1.0], [1.0, 1.0]]), labels, 2)
    return pool([first, second])


def test_fedcof_by_hand() -> None:
    head = heads_of(two_sites_of_two_classes(), shrinkage=0.0)["fedcof"]
    # G = diag(2, 8) + 4 diag(1, 0) = diag(6, 8); sums (2, 2), (2, -2); mean variance (2 + 8) / 2 / 2 = 2.5
    expected = np.array([[4.0, 3.0], [4.0, -3.0]]) / 5.0 / np.sqrt(2.5)
    np.testing.assert_allclose(head.weight, expected, rtol=1e-12)
    assert head.bias.tolist() == [0.0, 0.0]


def test_fedcof_with_a_ridge_by_hand() -> None:
    head = heads_of(two_sites_of_two_classes(), shrinkage=0.2)["fedcof"]
    # the ridge is 0.2 * 2.5 for each of the n_c - 1 = 1 degrees of freedom of both classes: G = diag(7, 9)
    expected = np.array([[9.0, 7.0], [9.0, -7.0]]) / np.sqrt(130.0) / np.sqrt(2.5)
    np.testing.assert_allclose(head.weight, expected, rtol=1e-12)


def test_fedcof_weighs_the_sites_of_a_class_by_their_images() -> None:
    sites = [moments(np.full((n, 1), mean), np.zeros(n, dtype=np.int64), 1) for n, mean in ((1, 4.0), (3, 0.0))]
    # class mean 1; S = (1 * 3^2 + 3 * 1^2) / (2 - 1) = 12; the only weight has length 1
    assert heads_of(pool(sites))["fedcof"].weight == pytest.approx(1.0 / np.sqrt(12.0))


def test_fedcof_scores_a_class_that_one_site_holds_with_the_covariance_of_the_others() -> None:
    f, labels = embeddings(0)
    alone = labels == 2
    pooled = pool([moments(f[alone], labels[alone]), *_thirds(f[~alone], labels[~alone])])
    assert pooled["num-sites"].tolist() == [3.0, 3.0, 1.0, 3.0]
    assert np.isfinite(heads_of(pooled)["fedcof"].scores(f)).all()


def _thirds(f: Array, labels: NDArray[np.int64]) -> list[dict[str, Array]]:
    order = np.argsort(labels, kind="stable")
    return [moments(f[order[k::3]], labels[order[k::3]]) for k in range(3)]


def test_fedcof_is_not_defined_where_no_class_is_held_by_two_sites() -> None:
    f, labels = embeddings(0)
    heads, reasons = build_heads(pool(moments(f[labels == c], labels[labels == c]) for c in range(K)), 0.1)
    assert set(heads) == {"nearest-mean", "cosine", "lda"}
    assert reasons == {"fedcof": "no class is held by two sites or more"}


def test_fedcof_is_not_defined_where_the_sites_agree() -> None:
    f, labels = embeddings(0)
    _, reasons = build_heads(pool([moments(f, labels)] * 3), 0.1)
    assert reasons == {"fedcof": "the sites' means of each class are the same"}


@pytest.mark.parametrize("shrinkage", [0.0, 0.1])
def test_lda_is_not_defined_with_one_image_a_class(shrinkage: float) -> None:
    f = np.abs(np.random.default_rng(0).standard_normal((K, D)))
    heads, reasons = build_heads(pool([moments(f, np.arange(K))]), shrinkage)
    assert set(heads) == {"nearest-mean", "cosine"}
    assert "do not vary within any class" in reasons["lda"]


@pytest.mark.parametrize("name", ["nearest-mean", "cosine"])
def test_one_image_a_class_is_enough_for_prototypes(name: str) -> None:
    f = np.abs(np.random.default_rng(0).standard_normal((K, D)))
    heads, _ = build_heads(pool([moments(f, np.arange(K))]), 0.1)
    assert predict(heads[name].scores(f)).tolist() == list(range(K))


def test_nearest_mean_scores_of_one_image_a_class_are_plain_squared_distances() -> None:
    f = np.array([[1.0, 0.0], [0.0, 2.0]])
    heads, _ = build_heads(pool([moments(f, np.arange(2), 2)]), 0.1)
    assert heads["nearest-mean"].scores(f).tolist() == [[1.0, -4.0], [-1.0, 4.0]]  # 2 P.f - |P|^2


def test_lda_needs_shrinkage_where_a_unit_of_the_embedding_is_dead() -> None:
    f, labels = embeddings(0)
    f[:, 0] = 0.0
    _, reasons = build_heads(pooled_over_sites(f, labels, 40), 0.0)
    assert "'classification.shrinkage'" in reasons["lda"]
    assert "'classification.shrinkage'" in reasons["fedcof"]
    assert np.isfinite(heads_of(pooled_over_sites(f, labels, 40), 0.01)["lda"].scores(f)).all()


def test_with_one_class_every_head_predicts_it() -> None:
    f, _ = embeddings(0, classes=1)
    pooled = pooled_over_sites(f, np.full(len(f), 2), 5)
    for head in heads_of(pooled).values():
        assert set(predict(head.scores(f)).tolist()) == {2}


def test_nothing_is_defined_where_all_classes_are_absent() -> None:
    heads, reasons = build_heads(pool([blank_moments(K, D)]), 0.1)
    assert heads == {}
    assert reasons == dict.fromkeys(BUILT, "no class is held by any site")


def test_a_linear_head_without_any_class_is_refused() -> None:
    with pytest.raises(FlAppError, match="No node holds an image of any class"):
        linear_head(np.zeros((K, D)), np.zeros(K), [False] * K)


def test_a_linear_head_is_the_layer_where_every_class_is_held() -> None:
    f, _ = embeddings(0)
    weight, bias = np.random.default_rng(1).standard_normal((K, D)), np.arange(float(K))
    scores = linear_head(weight.astype(np.float32), bias, [True] * K).scores(f)
    np.testing.assert_allclose(scores, f @ weight.astype(np.float32).astype(np.float64).T + bias, rtol=1e-12)


def test_ties_go_to_the_smallest_class() -> None:
    assert predict(np.array([[1.0, 1.0, 1.0], [-np.inf, 2.0, 2.0], [0.0, 3.0, 1.0]])).tolist() == [0, 1, 1]


@pytest.mark.parametrize("name", BUILT)
def test_classes_with_the_same_images_have_the_same_weights(name: str) -> None:
    f, labels = embeddings(0)
    f, labels = np.concatenate([f, f[labels == 1]]), np.concatenate([labels, np.full((labels == 1).sum(), K)])
    third = np.arange(len(f)) % 3
    parts = []
    for k in range(3):
        part = moments(f[third == k], labels[third == k], K + 1)
        for key in ("count", "sum"):
            part[key][1] = part[key][K] = (part[key][1] + part[key][K]) / 2.0
        parts.append(part)
    head = heads_of(pool(parts))[name]
    np.testing.assert_allclose(head.weight[1], head.weight[K], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(head.bias[1], head.bias[K], rtol=1e-9, atol=1e-12)


def test_an_embedding_of_zeros_has_a_cosine_of_zero_to_every_class() -> None:
    f, labels = embeddings(0)
    scores = heads_of(pooled_over_sites(f, labels, 3))["cosine"].scores(np.zeros((1, D)))
    assert scores.tolist() == [[0.0] * K]


@pytest.mark.parametrize("name", BUILT)
def test_no_embeddings_have_no_scores(name: str) -> None:
    head = heads_of(pooled_over_sites(*embeddings(0), 3))[name]
    assert head.scores(np.zeros((0, D))).shape == (0, K)
    assert predict(head.scores(np.zeros((0, D)))).shape == (0,)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_embedding_that_is_not_finite_has_no_score(value: float) -> None:
    head = Head(np.eye(2), np.zeros(2))
    with pytest.raises(FlAppError, match="not finite"):
        head.scores(np.array([[1.0, value]]))


@laws
@given(seeds)
def test_building_heads_leaves_the_moments_as_they_were(seed: int) -> None:
    pooled, again = (pooled_over_sites(*embeddings(seed), 3) for _ in range(2))
    build_heads(pooled, 0.1)
    assert all(np.array_equal(pooled[key], again[key]) for key in pooled)


def test_the_distance_is_that_to_the_nearest_held_prototype() -> None:
    prototypes = np.array([[0.0, 0.0], [3.0, 4.0], [10.0, 0.0]])
    features = np.array([[0.0, 0.0], [3.0, 4.0], [10.0, 1.0]])
    assert nearest_distance(prototypes, np.array([True, True, True]), features).tolist() == [0.0, 0.0, 1.0]
    assert nearest_distance(prototypes, np.array([False, True, False]), features[:1]).tolist() == [5.0]


def test_without_a_held_prototype_everything_is_infinitely_far() -> None:
    assert nearest_distance(np.zeros((2, D)), np.zeros(2, dtype=bool), np.zeros((3, D))).tolist() == [np.inf] * 3


@laws
@given(seeds)
def test_the_prior_changes_lda_alone_and_only_by_the_log_of_each_classs_share(seed: int) -> None:
    f, labels = embeddings(seed)
    pooled = pooled_over_sites(f, labels, 4)
    training, equal = (build_heads(pooled, 0.1, prior)[0] for prior in ("training", "equal"))
    for name in BUILT:
        shift = np.log(pooled["count"] / pooled["count"].sum()) if name == "lda" else np.zeros(K)
        np.testing.assert_allclose(training[name].bias, equal[name].bias + shift)
        np.testing.assert_array_equal(training[name].weight, equal[name].weight)


@laws
@given(seeds)
def test_the_mahalanobis_distance_is_that_of_ldas_covariance(seed: int) -> None:
    f, labels = embeddings(seed)
    pooled = pool([moments(f, labels)])
    means = np.stack([f[labels == c].mean(axis=0) for c in range(K)])
    within = (f - means[labels]).T @ (f - means[labels]) / len(f)
    inverse = np.linalg.inv(within + 0.1 * np.trace(within) / D * np.eye(D))
    expected = [min(mahalanobis(one, mean, inverse) for mean in means) for one in f]
    mapped_by = distance_map(pooled, 0.1, "mahalanobis")
    np.testing.assert_allclose(nearest_distance(means, np.full(K, True), f, mapped_by), expected, rtol=1e-8)


@laws
@given(seeds)
def test_mahalanobis_distances_do_not_depend_on_the_units_of_the_features(seed: int) -> None:
    f, labels = embeddings(seed)
    units = np.exp(np.random.default_rng(seed).standard_normal(D))
    found = []
    for g in (f, f * units):
        pooled = pool([moments(g, labels)])
        mapped_by = distance_map(pooled, 0.0, "mahalanobis")
        found.append(nearest_distance(pooled["sum"] / pooled["count"][:, None], np.full(K, True), g, mapped_by))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_without_a_covariance_that_can_be_inverted_distances_are_euclidean() -> None:
    f, _ = embeddings(0, K)
    assert distance_map(pool([moments(f, np.arange(K))]), 0.1, "mahalanobis") is None  # one image a class
    assert distance_map(pool([blank_moments(K, D)]), 0.1, "mahalanobis") is None
    assert distance_map(pool([moments(*embeddings(0))]), 0.1, "euclid") is None
