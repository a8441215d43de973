"""Heads that were built without a site's moments: subtraction, what a site may learn, and what it measures."""

import numpy as np
import pytest

from fl_app.classification.heads import build_heads, from_arrays, linear_head, to_arrays
from fl_app.classification.left_out import (
    check_left_out,
    heads_without,
    left_out_figures,
    measure_left_out,
    without_site,
)
from fl_app.classification.measuring import embeddings
from fl_app.classification.moments import measure_moments, pool
from fl_app.errors import RejectedReply
from fl_app.sums import add
from tests.classification.models import CPU, make_images, make_network

COUNTS = {"a": (20, 15, 12), "b": (9, 30, 0), "c": (14, 0, 25), "d": (11, 16, 0)}
NETWORK = make_network(1)
PARTS = {
    site: measure_moments(NETWORK, make_images(counts, seed), CPU, min_class_count=1)
    for seed, (site, counts) in enumerate(COUNTS.items())
}
POOLED = pool(PARTS.values())


@pytest.mark.parametrize("site", COUNTS)
@pytest.mark.parametrize("prior", ["training", "equal"])
def test_a_head_by_subtraction_is_the_head_of_the_other_sites(site: str, prior: str) -> None:
    others = pool(part for name, part in PARTS.items() if name != site)
    expected, reasons = build_heads(others, 0.1, prior)
    found = heads_without(POOLED, PARTS[site], 0.1, prior)
    assert found.keys() == expected.keys() and not reasons
    for name, head in found.items():
        is_known = others["num-sites"] >= 2
        np.testing.assert_allclose(head.weight[is_known], expected[name].weight[is_known], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(head.bias[is_known], expected[name].bias[is_known], rtol=1e-9, atol=1e-9)


def test_a_class_of_no_other_site_leaves_nothing_behind() -> None:
    alone = measure_moments(NETWORK, make_images((3, 0, 40), 7), CPU, min_class_count=1)
    others = [measure_moments(NETWORK, make_images((8, 9, 0), seed), CPU, min_class_count=1) for seed in (1, 2)]
    rest = without_site(pool([alone, *others]), alone)
    assert not rest["sum"][2].any() and not rest["site-outer"][2].any() and rest["count"].tolist() == [16, 18, 0]


def test_no_site_is_sent_the_prototype_of_one_other_site() -> None:
    """Class 2 is held by a and c: without a's moments, its mean is that of c."""
    for site, known in (("a", [True, True, False]), ("b", [True, True, True]), ("c", [True, True, False])):
        for head in heads_without(POOLED, PARTS[site], 0.1, "equal").values():
            assert np.isfinite(head.bias).tolist() == known
            assert not head.weight[~np.array(known)].any()


def test_a_site_without_moments_gets_the_heads_of_all() -> None:
    whole, _ = build_heads(POOLED, 0.1, "equal")
    found = heads_without(POOLED, None, 0.1, "equal")
    assert all(np.array_equal(found[name].weight, head.weight) for name, head in whole.items())


def test_images_of_classes_that_a_head_does_not_know_are_not_counted() -> None:
    images, heads = make_images((10, 12, 9), 5), heads_without(POOLED, PARTS["a"], 0.1, "equal")
    sums = measure_left_out(from_arrays(to_arrays(heads)), [*heads, "undefined"], NETWORK, images, CPU)
    assert sums["left-out/lda"][0] == 22 and sums["left-out/lda"][1] == 22
    assert not sums["left-out/undefined"].any()
    layer = [getattr(NETWORK.linear, name).detach().double().numpy() for name in ("weight", "bias")]
    linear = linear_head(layer[0], layer[1], [True, True, False])
    features = np.concatenate([part for part, _ in embeddings(NETWORK, images, CPU)])
    named = linear.scores(features).argmax(axis=1)
    assert sums["left-out/lda"][2] == np.count_nonzero((named == images.labels.numpy()) & (images.labels.numpy() < 2))


def test_too_few_images_are_not_counted() -> None:
    heads = heads_without(POOLED, PARTS["a"], 0.1, "equal")
    images = make_images((2, 2, 9), 5)
    assert not measure_left_out(heads, heads, NETWORK, images, CPU, fewest=5)["left-out/lda"].any()
    assert measure_left_out(heads, heads, NETWORK, images, CPU, fewest=4)["left-out/lda"][0] == 4


def test_figures_are_those_of_all_sites_together() -> None:
    sites = [{"left-out/lda": np.array([10.0, 8.0, 5.0])}, {"left-out/lda": np.array([30.0, 12.0, 21.0])}]
    found = left_out_figures(add(sites), ["lda"])
    assert (found.images, found.accuracy, found.linear_accuracy) == ({"lda": 40}, {"lda": 0.5}, {"lda": 0.65})
    assert left_out_figures({"left-out/lda": np.zeros(3)}, ["lda"]).accuracy == {"lda": None}


@pytest.mark.parametrize("counts", [(10, 11, 0), (10, 0, 11), (21, 1, 1)])
def test_counts_of_more_images_than_there_are_are_rejected(counts: tuple[int, ...]) -> None:
    check_left_out({"left-out/lda": np.array([10.0, 10.0, 0.0])}, 20)
    with pytest.raises(RejectedReply, match="more than it measured heads on"):
        check_left_out({"left-out/lda": np.array(counts, dtype=np.float64)}, 20)
