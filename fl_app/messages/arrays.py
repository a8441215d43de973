"""Named arrays, as weights and sums, in records and packed for the way.

Flower carries every array of a record as an object of its own, with requests to the SuperLink for each, whatever its
size: 23 million weights in 191 arrays took 105 seconds a round, of which bytes were the smallest part. So between
server and nodes each record of arrays travels as a single array, in the format of safetensors.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, RecordDict
from numpy.typing import NDArray
from safetensors.numpy import load, save
from torch import Tensor

from fl_app.messages.incoming import RejectedReply, check_size

Weights = dict[str, NDArray[np.generic]]

_PACKED = "safetensors"


def array_record(weights: Mapping[str, NDArray[np.generic]] | Mapping[str, Tensor]) -> ArrayRecord:
    """Make a record of named arrays or tensors, as Flower's strategies take it."""
    return ArrayRecord({key: Array(_to_numpy(value)) for key, value in weights.items()})


def to_weights(record: ArrayRecord) -> Weights:
    """Return the named arrays of a record; each keeps its dtype and its shape, 0-dimensional ones too."""
    return {key: np.asarray(array.numpy()) for key, array in record.items()}


def pack(weights: Mapping[str, NDArray[np.generic]]) -> ArrayRecord:
    """Make a record that travels fast: all arrays in one, as the bytes of a safetensors file."""
    data = save({key: np.asarray(value, order="C") for key, value in weights.items()})  # it writes memory as it lies
    return ArrayRecord({_PACKED: Array(dtype="uint8", shape=(len(data),), stype=_PACKED, data=data)})


def unpack(record: ArrayRecord) -> Weights:
    """Return the named arrays that `pack` packed, in an order of safetensors' own; raises whatever damaged bytes do."""
    return load(record[_PACKED].data)


def unpack_like(name: str, content: RecordDict, like: Mapping[str, NDArray[Any]] | None) -> Weights:
    """Return the named arrays of a record that a node sent; None: any number of them.

    Raises:
        RejectedReply: they are larger than `like`, found out before they are read.
    """
    record = content.array_records[name]
    if len(record) != 1:
        raise RejectedReply(f"its {name!r} must be one packed array, got {len(record)}")
    if like is not None:
        check_size(name, record[_PACKED].data, like)
    return unpack(record)


def packed(content: RecordDict) -> RecordDict:
    """Return a message's content with its arrays packed for the way."""
    return RecordDict(
        {
            name: pack(to_weights(record)) if isinstance(record, ArrayRecord) else record
            for name, record in content.items()
        }
    )


def to_numpy(tensors: Mapping[str, Tensor]) -> Weights:
    """Turn named tensors into arrays on the host."""
    return {key: _to_numpy(value) for key, value in tensors.items()}


def to_tensors(weights: Mapping[str, NDArray[np.generic]]) -> dict[str, Tensor]:
    """Turn named arrays into tensors of their own memory."""
    return {key: torch.from_numpy(np.array(value)) for key, value in weights.items()}


def num_bytes(content: RecordDict) -> int:
    """Count the bytes of a message's arrays, without the few names and numbers beside them."""
    return sum(record.count_bytes() for record in content.array_records.values())


def _to_numpy(value: NDArray[np.generic] | Tensor) -> NDArray[np.generic]:
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    return np.asarray(value)
