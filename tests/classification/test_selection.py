"""From the sums of an exchange to what ships: heads, the choice among them, temperatures and limits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fl_app.classification.measuring import DISTANCE_EDGES, measure_heads
from fl_app.classification.moments import measure_moments
from fl_app.classification.selection import Built, PrototypeMethod, Selection, build, rows, select
from fl_app.data.images import ImageSet
from fl_app.messages.arrays import to_numpy
from fl_app.sums import Sums, add
from tests.classification.models import CPU, make_images, make_network
from tests.options import run_config

K, D = 3, 6
METHOD = PrototypeMethod(num_classes=K, embedding_size=D)


def images(seed: int) -> ImageSet:
    return make_images([20] * K, seed)


def exchange(method: PrototypeMethod = METHOD, num_sites: int = 3) -> tuple[Built, dict[str, Sums], Selection]:
    """Measure, build and select as a run does."""
    network = make_network(1)
    weights = to_numpy(network.state_dict())
    moments = {f"site-{n}": measure_moments(network, images(n), CPU, min_class_count=1) for n in range(num_sites)}
    built = build(method, weights, [True] * K, {"consistent": moments})
    measured: dict[str, Sums] = {
        f"site-{n}": measure_heads(network, None, built.heads, ("consistent",), {"validation": images(10 + n)}, CPU)
        for n in range(num_sites)
    }
    scorers = built.heads.scorers(method.measured_readings)
    return built, measured, select(method, built.heads, scorers, add(measured.values()), measured)


def test_defaults_are_those_of_the_options() -> None:
    options = run_config().classification
    for name in ("shrinkage", "prior", "head", "choose_by", "choose_confidence", "abstain_by", "abstain_quantile"):
        assert getattr(METHOD, name) == getattr(options, name)


def test_the_best_head_ships_with_its_reason_and_all_figures() -> None:
    _, _, selection = exchange()
    shipped = selection.shipped
    assert shipped.reading == "consistent" and shipped.head != "linear" and shipped.accuracy == 1.0
    assert shipped.linear_accuracy is not None and shipped.linear_accuracy < 1.0
    assert "better than linear" in shipped.why and set(shipped.differences) >= {"nearest-mean", "lda"}
    assert "global/linear" in selection.temperatures


def test_a_head_that_an_option_names_ships_whatever_the_images_say() -> None:
    assert exchange(replace(METHOD, head="linear"))[2].shipped.head == "linear"
    assert exchange(replace(METHOD, head="cosine"))[2].shipped.why == "option 'classification.head' names it"


def test_a_named_head_that_is_not_defined_is_told() -> None:
    network = make_network(1)
    built = build(replace(METHOD, head="lda"), to_numpy(network.state_dict()), [True] * K, {})
    measured = measure_heads(network, None, built.heads, (), {"validation": images(0)}, CPU)
    found = select(replace(METHOD, head="lda"), built.heads, [("global", "linear")], measured, {"one": measured})
    assert found.shipped.head == "linear" and "'lda', which option 'classification.head' names" in found.shipped.why
    assert found.abstain_distance is None and found.abstain_picture_distance is None


def test_limits_leave_the_asked_share_of_held_out_images_an_answer() -> None:
    built, measured, selection = exchange(replace(METHOD, abstain_by="euclid", abstain_quantile=0.5))
    total = add(measured.values())
    assert selection.abstain_distance is not None and selection.abstain_picture_distance is None
    within = total["validation/distance"][: np.searchsorted(DISTANCE_EDGES, selection.abstain_distance) + 1].sum()
    assert 0.5 <= within / total["validation/distance"].sum() < 0.7
    assert built.heads.mapped_by is None and built.heads.picture_map is None


def test_two_tests_share_the_images_that_may_be_lost() -> None:
    alone = exchange(replace(METHOD, abstain_by="mahalanobis", abstain_quantile=0.9))[2]
    shared = exchange(replace(METHOD, abstain_by="mahalanobis-or-picture", abstain_quantile=0.8))[2]
    assert shared.abstain_distance == alone.abstain_distance and shared.abstain_picture_distance is not None


def test_rows_stand_on_both_parts_and_a_local_layer_has_no_auc_over_several_sites() -> None:
    built, measured, _ = exchange()
    scorers, total = built.heads.scorers(METHOD.readings), add(measured.values())
    found = rows(scorers, total, num_sites=3)
    assert {row.part for row in found} == {"validation", "test"} and len(found) == 2 * len(scorers)
    assert all(row.figures["n"] == (180 if row.part == "validation" else 0) for row in found)


@pytest.mark.parametrize("prior", ["training", "equal"])
def test_pooled_moments_do_not_depend_on_how_images_lie_at_sites(prior: str) -> None:
    network = make_network(1)
    weights, whole = to_numpy(network.state_dict()), images(0)
    halves = {"a": whole.select(torch.arange(30)), "b": whole.select(torch.arange(30, 60))}
    method = replace(METHOD, prior=prior)  # type: ignore[arg-type]
    parts = [
        {"consistent": {site: measure_moments(network, part, CPU, min_class_count=1) for site, part in sites.items()}}
        for sites in ({"one": whole}, halves)
    ]
    one, two = (build(method, weights, [True] * K, sites).heads for sites in parts)
    assert two.prototypes == pytest.approx(one.prototypes, rel=1e-12)
    for name, head in one.heads["consistent"].items():
        assert two.heads["consistent"][name].weight == pytest.approx(head.weight, rel=1e-6, abs=1e-9)
