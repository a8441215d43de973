"""A batch that may be too large for the GPU: the same batch in pieces, to train on and to measure."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from fl_app.errors import FlAppError

log = logging.getLogger(__name__)


def accumulate_gradients(
    losses_of: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    indices: Tensor,
    noise: torch.Generator,
    num_pieces: int,
) -> tuple[Tensor, int]:
    """Leave the gradients of a batch's mean loss in the parameters; where memory is short, piece after piece.

    Out of GPU memory, the pieces are halved and the batch begins anew with the same noise generator. The mean is that
    of the whole batch, however it is cut.

    Args:
        losses_of: gives the loss of each image at the given positions, [B].
        optimizer: its gradients are replaced.
        indices: the positions of the batch's images, [B] int64.
        noise: what `losses_of` draws from.
        num_pieces: to begin with.

    Returns:
        The sum of the losses, and the number of pieces that was needed.

    Raises:
        FlAppError: memory is short for one image at a time.
    """
    start = noise.get_state()
    while True:
        optimizer.zero_grad(set_to_none=True)
        try:
            return _in_pieces(losses_of, indices, num_pieces), num_pieces
        except torch.OutOfMemoryError:
            if num_pieces >= len(indices):
                raise FlAppError(
                    "The GPU's memory does not hold a training step of a single image. Free it, take a smaller network "
                    "(option 'diffusion.block-channels') or set node option 'device' to 'cpu'."
                ) from None
        # Past the handler: its traceback held what is to be freed.
        num_pieces *= 2
        noise.set_state(start)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning("Out of GPU memory: the batches are cut into %d pieces, with the same effect", num_pieces)


def compute_in_pieces(compute: Callable[[slice], Tensor], size: int) -> Tensor:
    """Return what is computed of each image of a batch; where GPU memory is short, piece after piece.

    Args:
        compute: gives the results of the images of a slice, [B, ...]; draws no random numbers.
        size: of the batch.

    Returns:
        [size, ...], on the host.

    Raises:
        FlAppError: memory is short for one image at a time.
    """
    num_pieces = 1
    while True:
        length = max(1, -(-size // num_pieces))
        starts = range(0, max(1, size), length)
        try:
            return torch.cat([compute(slice(start, start + length)).cpu() for start in starts])
        except torch.OutOfMemoryError:
            if num_pieces >= size:
                raise FlAppError(
                    "The GPU's memory does not hold the measurement of a single image. Free it, or set node option "
                    "'device' to 'cpu'."
                ) from None
        num_pieces *= 2  # past the handler, as above
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning("Out of GPU memory: what is measured is cut into %d pieces", num_pieces)


def _in_pieces(losses_of: Callable[[Tensor], Tensor], indices: Tensor, num_pieces: int) -> Tensor:
    sums = []
    for part in indices.chunk(num_pieces):
        losses = losses_of(part)
        (losses.mean() * (len(part) / len(indices))).backward()
        sums.append(losses.detach().sum())
    return torch.stack(sums).sum() if len(sums) > 1 else sums[0]
