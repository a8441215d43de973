"""Converts named arrays (weights, sums) to records, packs records into one array for sending, and unpacks what arrives.

Flower sends every array of a record as a separate object, with several requests to the SuperLink for each. Sending 23
million weights in 191 arrays took 105 seconds a round, most of it for requests. So each record of arrays is sent as a
single array, in the format of safetensors.
"""

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, RecordDict
from numpy.typing import NDArray
from safetensors.numpy import load, save
from torch import Tensor

from fl_app.errors import RejectedReply

Weights = dict[str, NDArray[np.generic]]

_PACKED = "safetensors"
_HEADER_BYTES_EACH = 512  # limit for an array in safetensors' header: shape, dtype and position, without its name
_LENGTH_BYTES = 8  # of the header's length, at the start of the file


def array_record(weights: Mapping[str, NDArray[np.generic]] | Mapping[str, Tensor]) -> ArrayRecord:
    """Make a record of named arrays or tensors, as Flower's strategies take it."""
    return ArrayRecord({key: Array(_to_numpy(value)) for key, value in weights.items()})


def to_weights(record: ArrayRecord) -> Weights:
    """Return the named arrays of a record; each keeps its dtype and its shape, 0-dimensional ones too."""
    return {key: np.asarray(array.numpy()) for key, array in record.items()}


def pack(weights: Mapping[str, NDArray[np.generic]]) -> ArrayRecord:
    """Pack all arrays into a record of one array: the bytes of a safetensors file."""
    data = save({key: np.asarray(value, order="C") for key, value in weights.items()})  # safetensors ignores strides
    return ArrayRecord({_PACKED: Array(dtype="uint8", shape=(len(data),), stype=_PACKED, data=data)})


def unpack(record: ArrayRecord) -> Weights:
    """Return the arrays that `pack` packed, in safetensors' order; damaged bytes raise any exception."""
    return load(record[_PACKED].data)


def unpack_like(name: str, content: RecordDict, like: Mapping[str, NDArray[Any]] | None) -> Weights:
    """Return the named arrays of a record that a node sent.

    Args:
        name: of the record.
        content: of the message.
        like: expected names, shapes and dtypes, which limit the size; None: no limit.

    Raises:
        RejectedReply: the record is not one packed array, or is larger than `like`; checked before it is unpacked.
    """
    record = content.array_records[name]
    if len(record) != 1:
        raise RejectedReply(f"its {name!r} must be one packed array, got {len(record)}")
    if like is not None:
        check_size(name, record[_PACKED].data, like)
    return unpack(record)


def check_size(name: str, data: bytes, like: Mapping[str, NDArray[Any]]) -> None:
    """Raise RejectedReply if packed arrays are larger than the expected ones.

    Only the header's length is read, so the check is cheap whatever a node sends.

    Args:
        name: of the record, for the message.
        data: a safetensors file.
        like: arrays of the expected names, shapes and dtypes.
    """
    header_limit = 4096 + sum(len(key.encode()) + _HEADER_BYTES_EACH for key in like)
    limit = _LENGTH_BYTES + header_limit + sum(value.nbytes for value in like.values())
    if len(data) > limit:
        raise RejectedReply(f"its {name!r} takes {len(data) / 1e6:.1f} MB, expected at most {limit / 1e6:.1f} MB")
    if len(data) < _LENGTH_BYTES or struct.unpack("<Q", data[:_LENGTH_BYTES])[0] > header_limit:
        raise RejectedReply(f"its {name!r} cannot be read: the header is damaged or names too many arrays")


def packed(content: RecordDict) -> RecordDict:
    """Return a message's content with each record of arrays packed."""
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
    """Copy named arrays into tensors."""
    return {key: torch.from_numpy(np.array(value)) for key, value in weights.items()}


def num_bytes(content: RecordDict) -> int:
    """Return the bytes of a message's arrays; other records are not counted."""
    return sum(record.count_bytes() for record in content.array_records.values())


def _to_numpy(value: NDArray[np.generic] | Tensor) -> NDArray[np.generic]:
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    return np.asarray(value)
