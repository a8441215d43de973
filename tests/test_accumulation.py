from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fl_app.accumulation import accumulate_gradients, compute_in_pieces
from fl_app.errors import FlAppError

X = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))


def model() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def short_of_memory(net: nn.Module, noise: torch.Generator, holds: int, sizes: list[int]) -> Callable[[Tensor], Tensor]:
    """Losses with noise in them, of a GPU that holds so many images."""

    def losses_of(part: Tensor) -> Tensor:
        sizes.append(len(part))
        drawn = torch.rand(len(part), generator=noise)
        losses: Tensor = net(X[part]).squeeze(1).square() + drawn
        if len(part) > holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses

    return losses_of


@pytest.mark.parametrize(("holds", "pieces"), [(7, 1), (6, 2), (4, 2), (3, 4), (2, 4), (1, 8)])
def test_a_batch_in_pieces_has_the_gradients_of_the_whole(holds: int, pieces: int) -> None:
    net, noise, sizes = model(), torch.Generator().manual_seed(1), list[int]()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    losses_of = short_of_memory(net, noise, holds, sizes)
    total, needed = accumulate_gradients(losses_of, optimizer, torch.arange(7), noise, 1)
    found = [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]
    net.zero_grad()
    expected = net(X).squeeze(1).square()
    expected.mean().backward()
    assert needed == pieces
    for gradient, parameter in zip(found, net.parameters(), strict=True):
        assert parameter.grad is not None and torch.allclose(gradient, parameter.grad, rtol=1e-5, atol=1e-7)
    drawn = torch.rand(7, generator=torch.Generator().manual_seed(1))  # what a failed attempt drew is drawn again
    assert float(total) == pytest.approx(float((expected.detach() + drawn).sum()), rel=1e-5)


def test_the_next_batch_begins_with_the_pieces_that_the_last_one_needed() -> None:
    net, noise, sizes = model(), torch.Generator(), list[int]()
    losses_of = short_of_memory(net, noise, 2, sizes)
    _, needed = accumulate_gradients(losses_of, torch.optim.SGD(net.parameters()), torch.arange(4), noise, 2)
    assert (needed, sizes) == (2, [2, 2])


def test_memory_that_does_not_hold_one_image_ends_with_advice() -> None:
    net, noise, sizes = model(), torch.Generator(), list[int]()
    losses_of = short_of_memory(net, noise, 0, sizes)
    with pytest.raises(FlAppError, match=r"does not hold .* single image.*take a smaller network"):
        accumulate_gradients(losses_of, torch.optim.SGD(net.parameters()), torch.arange(3), noise, 1)
    assert sizes == [3, 2, 1]


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


def test_memory_that_does_not_hold_the_measurement_of_one_image_ends_with_advice() -> None:
    def compute(part: slice) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(FlAppError, match=r"does not hold the measurement of a single image"):
        compute_in_pieces(compute, 3)
