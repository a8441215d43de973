"""Which sums of an exchange a site may send: those that images lead to, and that nothing contradicts."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fl_app.classification.comparing import contradicted, out_of_scale
from fl_app.classification.heads import build_heads, linear_head
from fl_app.classification.judging import check_head_sums, check_site_moments
from fl_app.classification.measuring import HeadSet, blank_head_sums, distance_quantile, measure_heads
from fl_app.classification.moments import blank_moments, measure_moments, pool
from fl_app.data.images import ImageSet
from fl_app.errors import RejectedReply
from fl_app.metrics.choosing import choose_head
from fl_app.metrics.classification import best_temperature
from fl_app.metrics.intervals import CC, DD, NC, ND, NN, PATIENTS, intervals
from fl_app.strategies.admission import check_sums
from fl_app.sums import add
from tests.classification.models import CPU, make_images, make_network

Array = NDArray[np.float64]
Moments = dict[str, Array]

K, D = 4, 6
MEANS = np.random.default_rng(0).uniform(1.0, 3.0, (K, D)) * (1.0 + 2.0 * np.eye(K, D))


def moments(seed: int, counts: tuple[int, ...] = (30, 30, 30, 30)) -> Moments:
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(K), counts)
    f = np.maximum(MEANS[labels] + generator.normal(0.0, 0.5, (len(labels), D)), 0.0)
    members = np.eye(K)[labels]
    return {"count": members.sum(axis=0), "sum": members.T @ f, "outer": f.T @ f}


def other_classes(part: Moments) -> Moments:
    return {**part, "sum": np.roll(part["sum"], 1, axis=0)}


def larger(part: Moments) -> Moments:
    return {**part, "sum": part["sum"] * 5.0, "outer": part["outer"] * 25.0}


def billions(part: Moments) -> Moments:
    return {key: np.roll(value, 1, axis=0) * 1e7 if key == "sum" else value * 1e7 for key, value in part.items()}


def scattered(part: Moments) -> Moments:
    return {**part, "outer": part["outer"] + 1e4 * np.eye(D)}


@pytest.mark.parametrize("lie", [other_classes, larger, billions, scattered])
@pytest.mark.parametrize("num_honest", [2, 4])
def test_a_site_whose_sums_are_false_is_found_and_no_other(lie: Callable[[Moments], Moments], num_honest: int) -> None:
    honest = {f"site-{number}": moments(number) for number in range(num_honest)}
    assert list(contradicted({**honest, "liar": lie(moments(9))})) == ["liar"]


def test_sites_of_very_different_classes_and_sizes_are_all_fit() -> None:
    counts = [(100, 0, 0, 0), (0, 1, 0, 0), (2, 2, 2, 40), (0, 0, 7, 90), (300, 5, 5, 5), (0, 0, 0, 0)]
    parts = {str(number): moments(number, one) for number, one in enumerate(counts)}
    assert contradicted(parts) == {}


def test_of_two_sites_none_is_blamed() -> None:
    assert contradicted({"a": moments(0), "b": other_classes(moments(1))}) == {}


def one_dimension(part: Moments) -> Moments:
    total = np.zeros((K, D))
    total[:, 0] = part["count"] * 1e6
    outer = np.zeros((D, D))
    outer[0, 0] = part["count"].sum() * 1e12
    return {**part, "sum": total, "outer": outer}


def times(factor: float) -> Callable[[Moments], Moments]:
    return lambda part: {**part, "sum": part["sum"] * factor, "outer": part["outer"] * factor**2}


@pytest.mark.parametrize("lie", [times(1e6), times(0.0), times(1e-6), one_dimension, scattered])
@pytest.mark.parametrize("num_honest", [2, 4])
def test_sums_of_own_networks_that_are_of_another_size_are_found(
    lie: Callable[[Moments], Moments], num_honest: int
) -> None:
    honest = {f"site-{number}": times(1.0 + 0.2 * number)(moments(number)) for number in range(num_honest)}
    assert list(out_of_scale({**honest, "liar": lie(moments(9))})) == ["liar"]


def test_own_networks_that_see_classes_elsewhere_are_all_fit() -> None:
    counts = [(100, 0, 0, 0), (0, 1, 0, 0), (2, 2, 2, 40), (0, 0, 7, 90), (300, 5, 5, 5), (0, 0, 0, 0)]
    parts = {}
    for number, one in enumerate(counts):
        part = times(1.0 + 0.2 * number)(moments(number, one))
        turned = np.roll(np.roll(part["outer"], number, axis=0), number, axis=1)
        parts[str(number)] = {**part, "sum": np.roll(part["sum"], number, axis=1), "outer": turned}
    assert out_of_scale(parts) == {}
    assert out_of_scale({"a": moments(0), "b": times(1e6)(moments(1))}) == {}


Sums = dict[str, Array]
READINGS = ("consistent", "local")
HEAD = "validation/consistent/lda"
HEAD_OF = {"linear": "validation/global/linear", "lda": HEAD}


def head_set(with_joint: bool = True) -> HeadSet:
    network = make_network()
    pooled = pool([measure_moments(network, make_images((20, 15, 12), seed), CPU, 1) for seed in range(2)])
    layer = network.linear
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    heads = {"global": {"linear": linear_head(weight, bias, [True] * 3)}, "consistent": build_heads(pooled, 0.1)[0]}
    heads["own"] = heads["consistent"]
    prototypes = pooled["sum"] / pooled["count"][:, None]
    return HeadSet(heads, prototypes, pooled["count"] > 0, with_joint=with_joint)


def hard_images(seed: int, count: int, num_patients: int | None) -> ImageSet:
    """Images of whose labels a third is wrong; patients, if wanted, of several images each."""
    generator = np.random.default_rng(seed)
    counts = tuple(int(n) for n in generator.multinomial(count, [0.5, 0.3, 0.2]))
    images = make_images(counts, seed)
    labels = torch.from_numpy(np.where(generator.random(count) < 0.3, generator.integers(0, 3, count), images.labels))
    patients = None if num_patients is None else torch.from_numpy(generator.integers(0, num_patients, count))
    return ImageSet(images.images, labels, images.class_names, patients)


def measure(images: ImageSet, heads: HeadSet | None = None) -> Sums:
    network = make_network()
    return measure_heads(network, network, heads or head_set(), READINGS, {"validation": images}, CPU)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.sampled_from([None, 1, 2, 5, 12, 40]), st.booleans())
def test_what_is_measured_of_any_images_is_admitted(
    seed: int, count: int, num_patients: int | None, with_joint: bool
) -> None:
    heads = head_set(with_joint)
    images = hard_images(seed, count, num_patients)
    sums = measure(images, heads)
    check_sums(sums, blank_head_sums(heads.scorers(READINGS), 3, with_joint))
    check_head_sums(sums, images.class_counts().tolist())
    check_head_sums(sums, None)


def test_moments_of_more_images_than_a_site_described_are_refused() -> None:
    moments = measure_moments(make_network(), make_images((20, 15, 12), 0), CPU, 1)
    check_site_moments(moments, [20, 15, 12], 47.0)
    with pytest.raises(RejectedReply, match="more images than it said"):
        check_site_moments(moments, [20, 14, 12], None)
    with pytest.raises(RejectedReply, match=r"47 images, but it trained on 46"):
        check_site_moments(moments, None, 46.0)


def test_pictures_of_no_counted_image_are_refused() -> None:
    moments = blank_moments(3, 6)
    check_site_moments(moments, [0, 0, 0], None)
    moments["picture"] += np.eye(4)
    with pytest.raises(RejectedReply, match="of zero images"):
        check_site_moments(moments, [0, 0, 0], None)


def test_the_sums_of_no_image_are_admitted() -> None:
    check_head_sums(blank_head_sums(head_set().scorers(READINGS), 3, True), [0, 0, 0])


def changed(key: str, position: tuple[int, ...], by: float) -> Callable[[Sums], None]:
    def change(sums: Sums) -> None:
        sums[key][position] += by

    return change


def moved_images(sums: Sums) -> None:
    """Leave every margin as it is, and let the head win on more images than it has right."""
    sums[f"{HEAD}/paired"][0] += 1000.0


def other_joint(sums: Sums) -> None:
    cells = np.argwhere(sums[f"{HEAD}/joint"][0, 0] > 0)
    sums[f"{HEAD}/joint"][0, 0][tuple(cells[0])] -= 1.0
    sums[f"{HEAD}/joint"][0, 0][32, 32] += 1.0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (changed(f"{HEAD}/paired", (0, 0), 0.5), "not whole numbers"),
        (changed(f"{HEAD}/paired", (0, 0), -1000.0), "not whole numbers"),
        (changed(f"{HEAD}/paired", (0, 0), 1.0), "contradict one another"),
        (changed(f"{HEAD}/paired", (0, 1), 1.0), "contradict one another"),
        (moved_images, "more images than its confusion"),
        (changed(f"{HEAD}/patients", (PATIENTS,), 1.0), "different patients"),
        (changed(f"{HEAD}/patients", (NN,), -1.0), "different patients"),
        (changed(f"{HEAD}/patients", (CC,), -1000.0), "no patients"),
        (changed(f"{HEAD}/patients", (CC,), 1000.0), "no patients"),
        (changed(f"{HEAD}/patients", (NC,), 1e6), "no patients"),
        (changed(f"{HEAD}/patients", (NC,), 0.5), "not whole numbers"),
        (changed(f"{HEAD}/patients", (DD,), -1000.0), "no patients"),
        (changed(f"{HEAD}/patients", (DD,), 1e6), "no patients"),
        (changed(f"{HEAD}/patients", (ND,), 1e6), "no patients"),
        (changed(f"{HEAD}/patients", (ND,), -1e6), "no patients"),
        (other_joint, "joint counts"),
        (changed(f"{HEAD}/auroc", (5, 0, 0), 1.0), "different images"),
        (changed(f"{HEAD}/nll-count", (), 1.0), "more images than there are"),
        (changed(f"{HEAD}/nll-count", (), -0.5), "not whole numbers"),
        (changed(f"{HEAD}/nll", (), 5.0), "likelihoods contradict"),
        (changed(f"{HEAD}/nll-tempered", (3,), 1e9), "smaller than any"),
        (changed(f"{HEAD}/nll-runner-up", (3,), 1e9), "smaller than any"),
        (changed(f"{HEAD}/nll-runner-up", (3,), -1e9), "at least 0"),
        (changed("validation/distance", (200,), 1.0), "distances and heads on different images"),
        (changed("validation/distance", (200,), -1.0), "not whole numbers|distances and heads on different images"),
        (changed("validation/picture-distance", (200,), 1.0), "distances and heads on different images"),
    ],
)
def test_a_measurement_that_contradicts_itself_is_refused(change: Callable[[Sums], None], reason: str) -> None:
    sums = measure(hard_images(0, 60, 20))
    check_head_sums(sums, None)
    change(sums)
    with pytest.raises(RejectedReply, match=reason):
        check_head_sums(sums, None)


def test_patients_who_were_counted_without_their_images_are_refused() -> None:
    sums = measure(hard_images(0, 60, 20))
    for key in sums:
        if key.startswith("validation") and key.endswith("/patients"):
            sums[key][PATIENTS] += 1000.0
    with pytest.raises(RejectedReply, match="no patients"):
        check_head_sums(sums, None)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_a_site_sends_is_admitted_or_refused_and_nothing_else(data: st.DataObject) -> None:
    sums = measure(SOME_IMAGES, SOME_HEADS)
    for _ in range(data.draw(st.integers(1, 4))):
        key = data.draw(st.sampled_from(sorted(sums)))
        flat = sums[key].reshape(-1)
        value = data.draw(st.one_of(st.integers(-(10**6), 10**14), st.floats(-1e14, 1e14)))
        flat[data.draw(st.integers(0, len(flat) - 1))] = float(value)
    try:
        check_head_sums(sums, None)
    except RejectedReply:
        return
    add([sums])
    heads = {name: part_of(sums, f"{prefix}/") for name, prefix in HEAD_OF.items()}
    choose_head(heads, "accuracy", 0.68, {str(number): heads for number in range(3)})
    for found in heads.values():
        intervals(found)
        best_temperature(found)
    distance_quantile(sums["validation/distance"], 0.95)


def part_of(sums: Sums, prefix: str) -> Sums:
    return {key.removeprefix(prefix): value for key, value in sums.items() if key.startswith(prefix)}


SOME_IMAGES, SOME_HEADS = hard_images(3, 20, 8), head_set()
