"""A batch that may be too large for the GPU: the same batch in pieces, to train on and to measure."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from fl_app.errors import FlAppError

log = logging.getLogger(__name__)


def accumulate_gradients(
    losses_of: Callable[[slice], Tensor], optimizer: torch.optim.Optimizer, size: int, num_pieces: int
) -> tuple[Tensor, int]:
    """Leave the gradients of a batch's mean loss in the parameters; if GPU memory is short, piece after piece.

    Out of GPU memory, the pieces are halved and the batch starts again. The gradients are those of the whole batch,
    however it is cut, since noise and augmentation were drawn before; only dropout draws anew in each piece.

    Args:
        losses_of: gives the loss of each image of a slice of the batch, [B]; draws no random numbers.
        optimizer: its gradients are replaced.
        size: images in the batch.
        num_pieces: to begin with.

    Returns:
        The sum of the losses, and the number of pieces that was needed.

    Raises:
        FlAppError: memory is short for one image at a time.
    """
    while True:
        optimizer.zero_grad(set_to_none=True)
        try:
            return _in_pieces(losses_of, size, num_pieces), num_pieces
        except torch.OutOfMemoryError:
            if num_pieces >= size:
                raise FlAppError(
                    "The GPU's memory does not hold a training step of a single image. Free it, take a smaller network "
                    "(option 'diffusion.block-channels') or set node option 'device' to 'cpu'."
                ) from None
        # Past the handler: its traceback held what is to be freed.
        num_pieces *= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning("Out of GPU memory: the batches are cut into %d pieces", num_pieces)


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
        try:
            return torch.cat([compute(part).cpu() for part in _slices(size, num_pieces)])
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


def _in_pieces(losses_of: Callable[[slice], Tensor], size: int, num_pieces: int) -> Tensor:
    sums = []
    for part in _slices(size, num_pieces):
        losses = losses_of(part)
        (losses.mean() * (len(losses) / size)).backward()
        sums.append(losses.detach().sum())
    return torch.stack(sums).sum() if len(sums) > 1 else sums[0]


def _slices(size: int, num_pieces: int) -> list[slice]:
    """Cut a batch into pieces of one length, the last one smaller; an empty batch is one empty piece."""
    length = max(1, -(-size // num_pieces))
    return [slice(start, start + length) for start in range(0, max(1, size), length)]
