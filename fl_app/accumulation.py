"""Batches that may be too large for the GPU: trained on and measured in pieces."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from fl_app.errors import FlAppError

log = logging.getLogger(__name__)


def accumulate_gradients(
    losses_of: Callable[[slice], Tensor], optimizer: torch.optim.Optimizer, size: int, num_pieces: int
) -> tuple[Tensor, int]:
    """Leave the gradients of a batch's mean loss in the parameters; if GPU memory is short, piece by piece.

    Out of GPU memory, the pieces are halved and the batch starts again. The gradients are those of the whole batch, cut
    or not, since noise and augmentation were drawn before; only dropout draws anew in each piece.

    Args:
        losses_of: returns the loss of each image of a slice of the batch, [B]; draws no random numbers.
        optimizer: its gradients are replaced.
        size: images in the batch.
        num_pieces: to begin with.

    Returns:
        The sum of the losses, and the number of pieces that was needed.

    Raises:
        FlAppError: memory is too short for a single image.
    """

    def compute(parts: list[slice]) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        sums = []
        for part in parts:
            losses = losses_of(part)
            (losses.mean() * (len(losses) / size)).backward()
            sums.append(losses.detach().sum())
        return torch.stack(sums).sum() if len(sums) > 1 else sums[0]

    return _in_pieces(
        compute,
        size,
        num_pieces,
        "The GPU's memory is too small for a training step with a single image. Free it, take a smaller network "
        "(option 'diffusion.block-channels') or set node option 'device' to 'cpu'.",
    )


def compute_in_pieces(compute: Callable[[slice], Tensor], size: int) -> Tensor:
    """Return a result for each image of a batch; if GPU memory is short, computed piece by piece.

    Args:
        compute: returns the results of the images of a slice, [B, ...]; draws no random numbers.
        size: of the batch.

    Returns:
        [size, ...], on the host.

    Raises:
        FlAppError: memory is too short for a single image.
    """
    found, _ = _in_pieces(
        lambda parts: torch.cat([compute(part).cpu() for part in parts]),
        size,
        1,
        "The GPU's memory is too small for measuring a single image. Free it, or set node option 'device' to 'cpu'.",
    )
    return found


def _in_pieces(
    compute: Callable[[list[slice]], Tensor], size: int, num_pieces: int, too_small: str
) -> tuple[Tensor, int]:
    """Call `compute` with a batch's slices, more of them after each lack of memory; return their number, too.

    The slices have equal lengths, but the last one may be shorter; an empty batch is one empty slice.
    """
    while True:
        length = max(1, -(-size // num_pieces))
        try:
            starts = range(0, max(1, size), length)
            return compute([slice(start, start + length) for start in starts]), num_pieces
        except torch.OutOfMemoryError:
            if num_pieces >= size:
                raise FlAppError(too_small) from None
        # after the handler, because its traceback holds the tensors that are to be freed
        num_pieces *= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning("Out of GPU memory: the batches are cut into %d pieces", num_pieces)
