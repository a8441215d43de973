"""Laws of the sums that nodes measure: they add up, whatever the split."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from fl_app.classification.moments import blank_moments, measure_moments, picture_numbers, picture_sums, pool
from fl_app.classification.network import Classifier, build_network
from fl_app.data.images import DatasetInfo, ImageSet
from fl_app.data.loading import to_float
from fl_app.errors import FlAppError

CPU = torch.device("cpu")
CLASSES = ("a", "b", "c", "nobody's")
D = 6
laws = settings(max_examples=25, deadline=None)


def pixels_as_embeddings() -> Classifier:
    """Embeddings that no batch size can round differently: the pixels themselves."""
    return Classifier(nn.Flatten(), D, len(CLASSES))


def pictures(count: int = 60, seed: int = 0) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 2, 3), dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.randint(0, 3, (count,), generator=generator), CLASSES)


def measure(images: ImageSet, min_class_count: int = 1) -> dict[str, NDArray[np.float64]]:
    return measure_moments(pixels_as_embeddings(), images, CPU, min_class_count)


def embeddings(images: ImageSet) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    return to_float(images.images).flatten(1).double().numpy(), images.labels.numpy()


def assert_same(one: dict[str, NDArray[np.float64]], other: dict[str, NDArray[np.float64]]) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        np.testing.assert_allclose(value, other[key], rtol=1e-10, atol=1e-10, err_msg=key)


@laws
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 60), max_size=6))
def test_moments_of_any_split_pool_to_those_of_all_images(seed: int, cuts: list[int]) -> None:
    images = pictures()
    order = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
    parts = [images.select(chosen) for chosen in torch.tensor_split(order, sorted(cuts))]
    pooled = pool(measure(part) for part in parts)
    assert_same({key: pooled[key] for key in blank_moments(4, D)}, measure(images))


@laws
@given(st.integers(1, 5))
def test_two_pools_add_up_to_the_pool_of_all_sites(cut: int) -> None:
    sites = [measure(pictures(10, seed)) for seed in range(6)]
    first, second = pool(sites[:cut]), pool(sites[cut:])
    assert_same({key: first[key] + second[key] for key in first}, pool(sites))


def test_sums_are_those_written_out_over_the_embeddings() -> None:
    images = pictures()
    f, labels = embeddings(images)
    expected = {
        "count": np.array([float((labels == c).sum()) for c in range(4)]),
        "sum": np.stack([f[labels == c].sum(axis=0) for c in range(4)]),
        "outer": np.einsum("nd,ne->de", f, f),
        "withheld": np.zeros(4),
        "picture": picture_sums(images.images),
    }
    assert_same(measure(images), expected)


def test_the_means_of_sites_are_what_pooling_adds() -> None:
    sites = [measure(pictures(8, seed)) for seed in range(3)]
    pooled = pool(sites)
    for c in range(4):
        held = [site for site in sites if site["count"][c] > 0]
        outer = sum((np.outer(s["sum"][c], s["sum"][c]) / s["count"][c] for s in held), np.zeros((D, D)))
        np.testing.assert_allclose(pooled["site-outer"][c], outer, rtol=1e-12)
        assert pooled["num-sites"][c] == len(held)


def test_a_real_networks_moments_do_not_depend_on_the_split_beyond_its_float32() -> None:
    torch.manual_seed(0)
    network = build_network(DatasetInfo(CLASSES, 1, 8), "cnn", 16)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (300, 1, 8, 8), dtype=torch.uint8, generator=generator)
    everything = ImageSet(images, torch.randint(0, 3, (300,), generator=generator), CLASSES)
    whole = measure_moments(network, everything, CPU, 1)
    parts = [everything.select(chosen) for chosen in torch.arange(300).split([7, 1, 0, 292])]
    pooled = pool(measure_moments(network, part, CPU, 1) for part in parts)
    for key, value in whole.items():
        np.testing.assert_allclose(pooled[key], value, rtol=1e-5, err_msg=key)


@pytest.mark.parametrize("count", [1, 255, 256, 257])
def test_the_last_smaller_batch_counts(count: int) -> None:
    images = pictures(count)
    measured = measure(images)
    assert measured["count"].tolist() == images.class_counts().tolist()
    np.testing.assert_allclose(measured["sum"].sum(axis=0), embeddings(images)[0].sum(axis=0), rtol=1e-10, atol=1e-10)


def test_a_node_without_images_measures_zeros_and_changes_no_pool() -> None:
    nothing = measure(pictures(0))
    assert_same(nothing, blank_moments(4, D))
    assert_same(pool([measure(pictures()), nothing]), pool([measure(pictures())]))


def test_nodes_without_images_pool_to_zeros() -> None:
    pooled = pool([blank_moments(4, D), blank_moments(4, D)])
    assert not any(value.any() for value in pooled.values())
    assert pooled["site-outer"].shape == (4, D, D)


def test_a_class_below_the_smallest_count_is_left_out_of_every_sum_and_marked() -> None:
    many = pictures(40)
    two = ImageSet(pictures(2).images, torch.tensor([3, 3]), CLASSES)
    both = ImageSet(torch.cat([many.images, two.images]), torch.cat([many.labels, two.labels]), CLASSES)
    expected = {**measure(many), "withheld": np.array([0.0, 0.0, 0.0, 1.0])}
    assert_same(measure(both, min_class_count=3), expected)
    assert measure(both, min_class_count=2)["withheld"].tolist() == [0.0] * 4


def test_the_numbers_of_a_single_picture_leave_a_site_only_if_its_class_is_not_withheld() -> None:
    one = pictures(1)
    numbers = picture_numbers(one.images)[0]
    np.testing.assert_allclose(measure(one, min_class_count=1)["picture"][0, 1:], numbers)
    assert not measure(one, min_class_count=2)["picture"].any()


def test_a_part_of_an_older_version_adds_no_picture() -> None:
    older = {key: value for key, value in measure(pictures(8, 1)).items() if key != "picture"}
    pooled = pool([older, measure(pictures())])
    assert np.array_equal(pooled["picture"], measure(pictures())["picture"])
    assert pooled["count"].sum() == 68


def test_a_class_without_images_is_absent_not_withheld() -> None:
    assert measure(pictures(), min_class_count=5)["withheld"][3] == 0.0


def test_a_node_whose_classes_are_all_too_small_sends_marks_only() -> None:
    measured = measure(pictures(), min_class_count=1000)
    assert_same(measured, {**blank_moments(4, D), "withheld": np.array([1.0, 1.0, 1.0, 0.0])})


def test_sites_that_withhold_a_class_are_counted() -> None:
    assert pool([measure(pictures(), 1000)] * 3)["withheld"].tolist() == [3.0, 3.0, 3.0, 0.0]


def test_the_network_is_measured_in_eval_mode() -> None:
    model = Classifier(nn.Sequential(nn.Flatten(), nn.Dropout(0.5)), D, 4).train()
    assert_same(measure_moments(model, pictures(), CPU, 1), measure(pictures()))


def test_measuring_leaves_no_gradients() -> None:
    model = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(6, D)), D, 4)
    measure_moments(model, pictures(), CPU, 1)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_embeddings_that_are_not_finite_are_refused_without_values(value: float) -> None:
    layer = nn.Linear(6, D)
    nn.init.constant_(layer.bias, value)
    with pytest.raises(FlAppError, match="not finite") as error:
        measure_moments(Classifier(nn.Sequential(nn.Flatten(), layer), D, 4), pictures(), CPU, 1)
    assert error.value.public == str(error.value)


def test_pooling_leaves_the_parts_as_they_were() -> None:
    one, other = measure(pictures()), measure(pictures())
    pool([one, one])
    assert_same(one, other)


def test_no_parts_have_no_pool() -> None:
    with pytest.raises(ValueError, match="blank_moments"):
        pool([])


@pytest.mark.parametrize("other", [blank_moments(4, 5), blank_moments(3, D)])
def test_parts_of_other_shapes_are_refused(other: dict[str, NDArray[np.float64]]) -> None:
    with pytest.raises(ValueError, match="other keys or shapes"):
        pool([blank_moments(4, D), other])
