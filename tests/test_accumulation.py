from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fl_app.accumulation import accumulate_gradients, compute_in_pieces
from fl_app.data.images import Batch, DatasetInfo, ImageSet
from fl_app.data.loading import take
from fl_app.errors import FlAppError
from fl_app.options.sections import OptionValue
from fl_app.tasks import Task, build_task
from tests.options import run_config

X = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))


def model() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def short_of_memory(net: nn.Module, holds: int, sizes: list[int]) -> Callable[[slice], Tensor]:
    """Losses of a GPU that holds so many images."""

    def losses_of(part: slice) -> Tensor:
        sizes.append(len(X[part]))
        losses: Tensor = net(X[part]).squeeze(1).square()
        if len(X[part]) > holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses

    return losses_of


@pytest.mark.parametrize(("holds", "pieces"), [(7, 1), (6, 2), (4, 2), (3, 4), (2, 4), (1, 8)])
def test_a_batch_in_pieces_has_the_gradients_of_the_whole(holds: int, pieces: int) -> None:
    net, sizes = model(), list[int]()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    total, needed = accumulate_gradients(short_of_memory(net, holds, sizes), optimizer, 7, 1)
    found = [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]
    net.zero_grad()
    expected = net(X).squeeze(1).square()
    expected.mean().backward()
    assert needed == pieces
    for gradient, parameter in zip(found, net.parameters(), strict=True):
        assert parameter.grad is not None and torch.allclose(gradient, parameter.grad, rtol=1e-5, atol=1e-7)
    assert float(total) == pytest.approx(float(expected.detach().sum()), rel=1e-5)


def test_the_next_batch_begins_with_the_pieces_that_the_last_one_needed() -> None:
    net, sizes = model(), list[int]()
    _, needed = accumulate_gradients(short_of_memory(net, 4, sizes), torch.optim.SGD(net.parameters()), 7, 2)
    assert (needed, sizes) == (2, [4, 3])


def test_memory_that_is_too_small_for_one_image_ends_with_advice() -> None:
    net, sizes = model(), list[int]()
    with pytest.raises(FlAppError, match=r"is too small .* single image.*take a smaller network"):
        accumulate_gradients(short_of_memory(net, 0, sizes), torch.optim.SGD(net.parameters()), 3, 1)
    assert sizes == [3, 2, 1]


def _gradients(task: Task, images: ImageSet, num_pieces: int) -> list[Tensor]:
    """Return the gradients of one batch of all images, cut into so many pieces."""
    torch.manual_seed(0)
    net = task.build_model().double()
    batch = take(images, torch.arange(len(images)), torch.device("cpu"))
    drawn = task.draw(Batch(batch.images.double(), batch.labels), torch.Generator().manual_seed(1))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    accumulate_gradients(lambda part: task.losses(net, drawn[part]), optimizer, len(images), num_pieces)
    return [parameter.grad for parameter in net.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("num_pieces", [2, 5])
@pytest.mark.parametrize("name", ["diffusion", "classification"])
def test_noise_and_augmentation_are_those_of_the_whole_batch_in_however_many_pieces(name: str, num_pieces: int) -> None:
    options: dict[str, OptionValue] = {"diffusion.augment": "flip", "classification.augment": "flip,shift"}
    config = run_config({**options, "tasks": name, "diffusion.block-channels": "8,8"})
    task = build_task(name, config, DatasetInfo(("a", "b"), 1, 8))
    pixels = torch.randint(0, 256, (32, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = ImageSet(pixels, torch.arange(32) % 2, ("a", "b"))
    whole, cut = _gradients(task, images, 1), _gradients(task, images, num_pieces)
    assert len(whole) > 5
    distance = torch.cat([(one - other).flatten() for one, other in zip(whole, cut, strict=True)]).norm()
    assert distance <= 1e-6 * torch.cat([one.flatten() for one in whole]).norm()


@pytest.mark.parametrize(("holds", "sizes"), [(7, [7]), (4, [7, 4, 3]), (1, [7, 4, 2, 1, 1, 1, 1, 1, 1, 1])])
def test_what_is_measured_in_pieces_is_what_the_whole_batch_gives(holds: int, sizes: list[int]) -> None:
    asked: list[int] = []

    def compute(part: slice) -> Tensor:
        asked.append(len(X[part]))
        if len(X[part]) > holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return X[part].square()

    assert torch.equal(compute_in_pieces(compute, len(X)), X.square())
    assert asked == sizes


def test_memory_that_is_too_small_for_measuring_one_image_ends_with_advice() -> None:
    def compute(part: slice) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(FlAppError, match=r"is too small for measuring a single image"):
        compute_in_pieces(compute, 3)
