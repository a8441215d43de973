"""What a node measures of the heads."""

import dataclasses
import math

import numpy as np
import torch

from fl_app.classification.heads import build_heads, distance_map, linear_head
from fl_app.classification.measuring import DISTANCE_EDGES, HeadSet, distance_quantile, measure_heads
from fl_app.classification.moments import measure_moments, picture_distances, picture_map, picture_sums, pool
from fl_app.data.images import ImageSet
from tests.classification.models import CPU, make_images, make_network


def head_set(by: str = "euclid", known: bool = True) -> HeadSet:
    network = make_network()
    pooled = pool([measure_moments(network, make_images((20, 15, 12), 0), CPU, 1)])
    layer = network.linear
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    heads = {"global": {"linear": linear_head(weight, bias, [True] * 3)}, "consistent": build_heads(pooled, 0.1)[0]}
    prototypes = pooled["sum"] / pooled["count"][:, None]
    return HeadSet(heads, prototypes, np.full(3, known), distance_map(pooled, 0.1, by))


def test_heads_come_back_from_a_message_as_they_were_sent() -> None:
    for by in ("euclid", "mahalanobis"):
        sent = head_set(by)
        found = HeadSet.from_arrays(sent.to_arrays())
        assert (found.mapped_by is None) == (by == "euclid") and not found.with_joint
        if found.mapped_by is not None and sent.mapped_by is not None:
            assert np.array_equal(found.mapped_by, sent.mapped_by)
        assert found.heads.keys() == sent.heads.keys()
    assert HeadSet.from_arrays(HeadSet({}, np.zeros((2, 3)), np.ones(2, bool), None, True).to_arrays()).with_joint


def test_a_patient_whose_images_lie_in_several_batches_counts_once() -> None:
    few = make_images((200, 200, 200), 1)
    patients = torch.arange(600) % 50  # each in all three batches
    of_patients = ImageSet(few.images, few.labels, few.class_names, patients)
    order = torch.argsort(patients, stable=True)
    found, sorted_by_patient = (
        measure_heads(make_network(), None, head_set(), ("consistent",), {"validation": images}, CPU)
        for images in (of_patients, of_patients.select(order))
    )
    key = "validation/consistent/lda/patients"
    assert found[key].tolist() == sorted_by_patient[key].tolist()
    assert found[key][0] == 50 and found[key][1] == 50 * 12**2


def test_patients_of_the_test_part_are_told_apart_from_those_of_the_held_out_part() -> None:
    images = make_images((20, 20, 20), 1)
    known = ImageSet(images.images, images.labels, images.class_names, torch.arange(60) // 6)
    parts = {"validation": known, "test": images}
    found = measure_heads(make_network(), None, head_set(), ("consistent",), parts, CPU)
    assert found["validation/global/linear/patients"][0] == 10
    assert found["test/global/linear/patients"][0] == 60


def test_the_linear_head_is_paired_with_itself_without_a_difference() -> None:
    network = make_network()
    found = measure_heads(
        network, network, head_set(), ("consistent", "local"), {"test": make_images((9, 9, 9), 2)}, CPU
    )
    for linear in ("global/linear", "local/linear"):
        assert not found[f"test/{linear}/paired"].any()
    assert found["test/consistent/lda/paired"].sum() > 0


def test_distances_are_counted_by_the_rule_of_the_heads_and_of_every_held_out_image() -> None:
    images = {"validation": make_images((9, 9, 9), 2)}
    plain, mapped = (
        measure_heads(make_network(), None, head_set(by), ("consistent",), images, CPU)["validation/distance"]
        for by in ("euclid", "mahalanobis")
    )
    assert plain.sum() == mapped.sum() == 27
    near, far = (distance_quantile(counts, 0.99) for counts in (plain, mapped))
    assert near is not None and far is not None
    assert 1.0 < far < 30.0  # standard deviations
    assert not 0.5 < near / far < 2.0  # the embedding's own unit


def test_pictures_are_counted_by_the_map_that_was_sent_and_of_every_held_out_image() -> None:
    images = {"validation": make_images((150, 150, 150), 2), "test": make_images((9, 9, 9), 3)}
    sums = picture_sums(make_images((20, 15, 12), 0).images)
    sent = dataclasses.replace(head_set(), picture_map=picture_map(sums))
    received = HeadSet.from_arrays(sent.to_arrays())
    counts = measure_heads(make_network(), None, received, ("consistent",), images, CPU)["validation/picture-distance"]
    distances = np.sort(picture_distances(picture_map(sums), images["validation"].images))
    assert counts.sum() == 450
    for quantile in (0.5, 0.95, 1.0):
        found = distance_quantile(counts, quantile)
        assert found is not None
        assert found / 1.05 < distances[math.ceil(quantile * 450) - 1] <= found


def test_without_a_prototype_every_image_is_infinitely_far() -> None:
    images = {"validation": make_images((3, 3, 3), 2)}
    found = measure_heads(make_network(), None, head_set(known=False), ("consistent",), images, CPU)
    assert found["validation/distance"][len(DISTANCE_EDGES)] == 9
