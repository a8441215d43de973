"""Sharing out: complete, disjoint, by seed; and the images a node holds out."""

import dataclasses
import random
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fl_app.data.images import ImageSet
from fl_app.data.partition import partition, split_validation
from fl_app.errors import OptionError
from fl_app.options.images import PartitionOptions, Scheme
from fl_app.options.sections import OptionValue
from tests.data.test_images import image_set
from tests.options import run_config

Labels = NDArray[np.int64]

_SCHEMES = tuple(scheme for scheme in get_args(Scheme) if scheme != "sites")  # which shares nothing out
_BY_SIZE = ("linear", "square", "exponential")
_LABELS = st.lists(st.integers(0, 4), max_size=40).map(lambda labels: np.array(labels, dtype=np.int64))
_SEEDS = st.integers(0, 2**40)
_few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _options(scheme: str, **changes: OptionValue) -> PartitionOptions:
    overrides = {f"partition.{name.replace('_', '-')}": value for name, value in changes.items()}
    return run_config({"partition.scheme": scheme, **overrides}).partition


def _balanced(num_classes: int, each: int) -> Labels:
    return np.arange(num_classes * each) % num_classes


@pytest.mark.parametrize("scheme", _SCHEMES)
@_few
@given(labels=_LABELS, num_nodes=st.integers(1, 9), alpha=st.floats(1e-3, 1e3), shards=st.integers(1, 4), seed=_SEEDS)
def test_every_image_goes_to_exactly_one_node(
    scheme: str, labels: Labels, num_nodes: int, alpha: float, shards: int, seed: int
) -> None:
    options = _options(scheme, alpha=alpha, shards_per_node=shards, classes_per_node=1)
    try:
        parts = partition(labels, num_nodes, options, seed)
    except OptionError:
        assert scheme in _BY_SIZE and num_nodes > 1  # the only ones that may refuse
        return
    assert len(parts) == num_nodes
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))


@pytest.mark.parametrize("scheme", _SCHEMES)
def test_the_same_seed_gives_the_same_split_and_another_seed_another(scheme: str) -> None:
    labels, options = _balanced(4, 50), _options(scheme)
    first, again, other = (partition(labels, 4, options, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("scheme", _SCHEMES)
def test_global_random_state_is_neither_read_nor_changed(scheme: str) -> None:
    random.seed(1)
    np.random.seed(1)
    first = partition(_balanced(4, 50), 4, _options(scheme), 0)
    assert (random.random(), np.random.random()) == (
        random.Random(1).random(),
        np.random.RandomState(1).random_sample(),
    )
    second = partition(_balanced(4, 50), 4, _options(scheme), 0)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("scheme", _SCHEMES)
@pytest.mark.parametrize("num_images", [0, 1, 3])
def test_a_lone_node_gets_everything(scheme: str, num_images: int) -> None:
    (part,) = partition(np.zeros(num_images, dtype=np.int64), 1, _options(scheme), 0)
    assert part.tolist() == list(range(num_images))


@pytest.mark.parametrize("scheme", _SCHEMES)
def test_positions_ascend_as_int64(scheme: str) -> None:
    for part in partition(_balanced(4, 50), 4, _options(scheme), 0):
        assert part.dtype == np.int64
        assert np.all(np.diff(part) > 0)


@pytest.mark.parametrize("scheme", _SCHEMES)
def test_nothing_is_printed(scheme: str, capfd: pytest.CaptureFixture[str]) -> None:
    partition(_balanced(4, 50), 4, _options(scheme), 0)
    assert capfd.readouterr() == ("", "")


def test_iid_deals_sorted_labels_out_evenly() -> None:
    labels = np.repeat(np.arange(2), 200)
    for part in partition(labels, 4, _options("iid"), 0):
        assert len(part) == 100
        assert 30 < np.sum(labels[part] == 0) < 70


def test_dirichlet_is_skewed_with_a_small_alpha_and_even_with_a_large_one() -> None:
    labels = _balanced(2, 500)
    skewed = [len(part) for part in partition(labels, 5, _options("dirichlet", alpha=0.05), 0)]
    even = [len(part) for part in partition(labels, 5, _options("dirichlet", alpha=1000.0), 0)]
    assert max(skewed) - min(skewed) > 300
    assert max(even) - min(even) < 60


@pytest.mark.parametrize(
    ("num_nodes", "classes", "expected"), [(5, 2, 2), (10, 2, 2), (4, 3, 3), (3, 1, 4), (20, 2, 2)]
)
def test_pathological_nodes_hold_the_asked_classes_or_what_it_takes_to_leave_none_out(
    num_nodes: int, classes: int, expected: int
) -> None:
    labels = _balanced(10, 40)
    parts = partition(labels, num_nodes, _options("pathological", classes_per_node=classes), 0)
    assert [len(np.unique(labels[part])) for part in parts] == [expected] * num_nodes


def test_pathological_refuses_more_classes_a_node_than_there_are() -> None:
    with pytest.raises(OptionError, match=r"classes-per-node' must be at most the number of classes, 3, got 4"):
        partition(_balanced(3, 20), 2, _options("pathological", classes_per_node=4), 0)


def test_shards_are_of_equal_size_give_or_take_one_image() -> None:
    sizes = [len(part) for part in partition(_balanced(4, 11), 7, _options("shard", shards_per_node=1), 0)]
    assert sorted(set(sizes)) == [6, 7]


def test_a_node_holds_no_more_classes_than_shards_where_shards_fit_the_classes() -> None:
    labels = _balanced(10, 12)
    parts = partition(labels, 5, _options("shard", shards_per_node=2), 0)
    assert all(len(np.unique(labels[part])) <= 2 for part in parts)


@pytest.mark.parametrize(
    ("scheme", "expected"), [("linear", [10, 20, 30]), ("square", [4, 17, 39]), ("exponential", [5, 14, 41])]
)
def test_sizes_worked_by_hand(scheme: str, expected: list[int]) -> None:
    assert [len(part) for part in partition(_balanced(2, 30), 3, _options(scheme), 0)] == expected


@pytest.mark.parametrize("scheme", _BY_SIZE)
def test_schemes_by_size_refuse_nodes_without_images(scheme: str) -> None:
    with pytest.raises(OptionError, match=r"leaves a node without images: 9 nodes share 4\. Take fewer"):
        partition(_balanced(2, 2), 9, _options(scheme), 0)


@given(labels=st.lists(st.integers(0, 2), max_size=40), share=st.floats(0, 1, exclude_max=True), seed=_SEEDS)
@_few
def test_a_validation_split_loses_no_image_and_doubles_none(labels: list[int], share: float, seed: int) -> None:
    train, validation = split_validation(image_set(labels), share, seed, "north")
    found = [*train.images[:, 0, 0, 0].tolist(), *validation.images[:, 0, 0, 0].tolist()]
    assert sorted(found) == list(range(len(labels)))
    if share > 0 and len(labels) >= 2:
        assert len(train) >= 1 and len(validation) >= 1
    else:
        assert len(validation) == 0


def test_validation_takes_the_same_share_of_each_class() -> None:
    _, validation = split_validation(image_set([0] * 50 + [1] * 30 + [2] * 20), 0.2, 0, "north")
    assert validation.class_counts().tolist() == [10, 6, 4]


def test_validation_depends_on_seed_and_site_and_on_nothing_else() -> None:
    def held_out(seed: int, site: str) -> list[int]:
        _, validation = split_validation(image_set([0] * 60), 0.3, seed, site)
        return [int(value) for value in validation.images[:, 0, 0, 0]]

    assert held_out(0, "north") == held_out(0, "north")
    assert held_out(0, "north") != held_out(1, "north")
    assert held_out(0, "north") != held_out(0, "south")


def _of_patients(labels: list[int], patients: list[int]) -> ImageSet:
    return dataclasses.replace(image_set(labels, 5), patients=torch.tensor(patients, dtype=torch.int64))


@settings(deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=40),
    share=st.floats(0, 0.99),
    seed=_SEEDS,
)
def test_no_patient_is_ever_on_two_sides_and_no_image_is_lost(
    pairs: list[tuple[int, int]], share: float, seed: int
) -> None:
    images = _of_patients([label for label, _ in pairs], [patient for _, patient in pairs])
    train, validation = split_validation(images, share, seed, "north")
    assert train.patients is not None and validation.patients is not None
    assert not set(train.patients.tolist()) & set(validation.patients.tolist())
    assert sorted(train.labels.tolist() + validation.labels.tolist()) == sorted(images.labels.tolist())
    if share > 0 and len({patient for _, patient in pairs}) >= 2:
        assert len(train) and len(validation)


@settings(deadline=None)
@given(labels=st.lists(st.integers(0, 4), max_size=40), share=st.floats(0, 0.99), seed=_SEEDS)
def test_where_each_image_shows_another_patient_the_split_is_the_one_without_patients(
    labels: list[int], share: float, seed: int
) -> None:
    plain = split_validation(image_set(labels, 5), share, seed, "north")
    split = split_validation(_of_patients(labels, list(range(len(labels)))), share, seed, "north")
    assert [part.labels.tolist() for part in split] == [part.labels.tolist() for part in plain]
    assert [part.images.tolist() for part in split] == [part.images.tolist() for part in plain]


def test_a_patient_counts_for_the_class_of_most_images_and_for_the_first_one_where_they_are_even() -> None:
    labels, unit_of = _of_patients([3, 1, 3, 2, 0, 0], [7, 7, 7, 2, 2, 5]).units()
    assert labels.tolist() == [0, 0, 3]  # of patients 2, 5 and 7
    assert unit_of.tolist() == [2, 2, 2, 0, 0, 1]


def test_the_share_of_each_class_holds_for_patients() -> None:
    patients = [number // 3 for number in range(120)]  # 40 patients of 3 images
    _, validation = split_validation(_of_patients([patient % 4 for patient in patients], patients), 0.2, 0, "north")
    assert validation.class_counts().tolist() == [6, 6, 6, 6, 0]
