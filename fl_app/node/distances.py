"""Distances of one set of weights from another."""

from collections.abc import Mapping

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]


def distance(one: Tensors, other: Tensors) -> float:
    """Return the Euclidean distance of two sets of weights, over all numbers that are no integers.

    Running statistics of a network count as weights do: the node's own training moves them, too.
    """
    return length({key: one[key].cpu() - value.cpu() for key, value in other.items()})


def length(weights: Tensors) -> float:
    """Return the Euclidean length of weights, over all numbers that are no integers."""
    norms = [torch.linalg.vector_norm(value.float()) for value in weights.values() if value.is_floating_point()]
    return float(torch.linalg.vector_norm(torch.stack(norms).double())) if norms else 0.0


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference of two arrays, as a part of 1 or of the expected number, if that is larger."""
    expected = expected.double()
    return float(((found.double() - expected).abs() / expected.abs().clamp(min=1.0)).max())
