"""Batches: every image once, bytes back and forth, order by generator."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_app.data.loading import batches_of_round, iterate, place, to_bytes, to_float
from tests.data.test_images import image_set

_CPU = torch.device("cpu")


def _brightness(images: torch.Tensor) -> list[int]:
    return [int(value) for value in to_bytes(images)[:, 0, 0, 0]]


def test_bytes_survive_the_way_to_floats_and_back() -> None:
    every_byte = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    assert torch.equal(to_bytes(to_float(every_byte)), every_byte)


def test_floats_reach_from_minus_one_to_one() -> None:
    assert to_float(torch.tensor([[0, 255]], dtype=torch.uint8)).tolist() == [[-1.0, 1.0]]


def test_floats_outside_the_range_are_clipped() -> None:
    assert to_bytes(torch.tensor([[-3.0, 3.0]])).tolist() == [[0, 255]]


@given(num_images=st.integers(0, 20), batch_size=st.integers(1, 8), seed=st.none() | st.integers(0, 2**40))
def test_an_epoch_yields_every_image_once(num_images: int, batch_size: int, seed: int | None) -> None:
    images = image_set([position % 3 for position in range(num_images)])
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    batches = list(iterate(images, batch_size, _CPU, generator))
    found = [value for batch in batches for value in _brightness(batch.images)]
    assert sorted(found) == list(range(num_images))
    assert [int(label) for batch in batches for label in batch.labels] == [position % 3 for position in found]


def _order(epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(epoch)


@given(
    num_images=st.integers(0, 30),
    batch_size=st.integers(1, 8),
    rounds_per_epoch=st.integers(1, 12),
    num_epochs=st.integers(1, 3),
)
def test_rounds_of_a_part_of_an_epoch_see_every_image_once_an_epoch(
    num_images: int, batch_size: int, rounds_per_epoch: int, num_epochs: int
) -> None:
    rounds = [
        batches_of_round(num_images, batch_size, 1 / rounds_per_epoch, number, _order)
        for number in range(1, rounds_per_epoch * num_epochs + 1)
    ]
    seen = [int(position) for batches in rounds for batch in batches for position in batch]
    assert all(0 < len(batch) <= batch_size for batches in rounds for batch in batches)
    assert len(seen) == num_images * num_epochs
    for epoch in range(num_epochs):
        assert sorted(seen[epoch * num_images : (epoch + 1) * num_images]) == list(range(num_images))


@pytest.mark.parametrize("epochs", [1, 3, 0.5, 1.5])
def test_rounds_go_on_where_the_last_one_ended(epochs: float) -> None:
    parts = [batches_of_round(10, 100, epochs, number, _order) for number in (1, 2)]
    whole = batches_of_round(10, 100, 2 * epochs, 1, _order)
    assert [int(i) for part in parts for batch in part for i in batch] == [int(i) for batch in whole for i in batch]


def test_no_batch_reaches_into_the_next_epoch() -> None:
    assert [len(batch) for batch in batches_of_round(5, 4, 2, 1, _order)] == [4, 1, 4, 1]


def test_the_last_batch_is_the_smaller_one() -> None:
    assert [len(batch) for batch in iterate(image_set([0] * 5), 4, _CPU)] == [4, 1]


def test_without_a_generator_the_order_stays() -> None:
    (batch,) = iterate(image_set([0, 1, 2]), 3, _CPU)
    assert _brightness(batch.images) == [0, 1, 2]


def test_the_same_generator_gives_the_same_order() -> None:
    first, second = (
        next(iterate(image_set([0] * 20), 20, _CPU, torch.Generator().manual_seed(3))).images for _ in range(2)
    )
    assert torch.equal(first, second)
    assert _brightness(first) != list(range(20))


def test_placing_on_the_cpu_changes_nothing() -> None:
    images = image_set([0, 2])
    placed = place(images, _CPU)
    assert torch.equal(placed.images, images.images)
    assert torch.equal(placed.labels, images.labels)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_small_set_is_placed_on_the_gpu() -> None:
    assert place(image_set([0, 1]), torch.device("cuda")).images.is_cuda


def _taken(num_images: int, batch_size: int, epochs: float, number: int, fewest: int) -> list[int]:
    return [
        int(one) for part in batches_of_round(num_images, batch_size, epochs, number, _order, fewest) for one in part
    ]


@settings(deadline=None)
@given(st.integers(1, 150), st.integers(1, 160), st.floats(0.004, 2.5), st.integers(1, 30))
def test_rounds_and_batches_of_a_hospital_are_never_small(
    num_images: int, batch_size: int, epochs: float, fewest: int
) -> None:
    rounds = [_taken(num_images, batch_size, epochs, number, fewest) for number in range(1, 7)]
    least = min(fewest, num_images)
    assert all(len(one) == 0 or len(one) >= least for one in rounds)
    for number in range(1, 7):
        sizes = [len(one) for one in batches_of_round(num_images, batch_size, epochs, number, _order, fewest)]
        assert all(size >= min(batch_size, least) for size in sizes)
        assert all(size < batch_size + fewest for size in sizes)
    asked = round(6 * epochs * num_images)
    assert asked <= sum(map(len, rounds)) < asked + 2 * fewest


def test_two_rounds_of_a_hospital_never_train_on_sets_that_differ_by_fewer_images() -> None:
    sets = [set(_taken(120, 1000, number / 120, 1, 20)) for number in range(1, 121)]
    sizes = {len(one ^ other) for one in sets for other in sets}
    assert min(sizes - {0}) >= 20
    assert len(sets[0]) == 20 and len(sets[-1]) == 120


def test_every_image_is_seen_once_an_epoch_at_a_hospital_too() -> None:
    taken = [image for number in range(1, 11) for image in _taken(107, 8, 0.1, number, 20)]
    assert sorted(taken) == list(range(107))
