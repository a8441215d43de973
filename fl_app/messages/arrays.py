"""Converts named arrays (weights, sums) to records, packs records into one array for sending, and unpacks what arrives.

Flower sends every array of a record as a separate object, with several requests to the SuperLink for each. Sending 23
million weights in 191 arrays took 105 seconds a round, most of it for requests. So each record of arrays is sent as a
single array, in the format of safetensors.
"""

import json
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
_NUMPY_HEADER_BYTES = 4096  # limit for the header of one array in numpy's own format
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BOOL": "bool",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8",
}  # fmt: skip

_Form = tuple[str, tuple[int, ...]]  # dtype and shape


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
        RejectedReply: the record is not one packed array, is larger than `like`, or says that it holds other names,
            shapes or dtypes. All this is checked before an array is unpacked, so that such a record costs no copy.
    """
    record = content.array_records[name]
    if len(record) != 1:
        raise RejectedReply(f"its {name!r} must be one packed array, got {len(record)}")
    if like is not None:
        data = record[_PACKED].data
        check_size(name, data, like)
        _check_forms(name, _forms_of(data), like)
    return unpack(record)


def numpy_like(name: str, record: ArrayRecord, like: Mapping[str, NDArray[Any]], has_dtypes: bool = True) -> Weights:
    """Return the named arrays of an ordinary Flower node's record, in numpy's own format.

    Args:
        name: of the record, for the message.
        record: of arrays that say their own shape and dtype.
        like: expected names, shapes and dtypes, which limit the size.
        has_dtypes: whether the dtypes must be those of `like`, too.

    Raises:
        RejectedReply: an array says that it is another one, or is larger; checked before it is unpacked.
    """
    forms = {key: (array.dtype, tuple(array.shape)) for key, array in record.items()}
    if not has_dtypes:
        forms = {key: (str(like[key].dtype) if key in like else dtype, shape) for key, (dtype, shape) in forms.items()}
    _check_forms(name, forms, like)
    for key, array in record.items():
        if len(array.data) > like[key].nbytes + _NUMPY_HEADER_BYTES:
            raise RejectedReply(f"its array {key!r} takes {len(array.data) / 1e6:.1f} MB, more than its shape tells")
    return to_weights(record)


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


def _forms_of(data: bytes) -> dict[str, _Form]:
    """Return what a safetensors file says of its arrays; a damaged header raises any exception."""
    end = _LENGTH_BYTES + struct.unpack("<Q", data[:_LENGTH_BYTES])[0]
    header = json.loads(data[_LENGTH_BYTES:end])
    return {key: (_DTYPES.get(one["dtype"], str(one["dtype"])), tuple(one["shape"])) for key, one in header.items()}


def _check_forms(name: str, found: Mapping[str, _Form], like: Mapping[str, NDArray[Any]]) -> None:
    """Raise RejectedReply unless a record says that it holds arrays of the expected names, shapes and dtypes."""
    begin = f"its {name!r} have other names or shapes than those asked for"
    if found.keys() != like.keys():
        missing, extra = like.keys() - found.keys(), found.keys() - like.keys()
        raise RejectedReply(f"{begin}: {len(missing)} missing, {len(extra)} unknown")
    for key, value in like.items():
        dtype, shape = found[key]
        if (dtype, shape) != (str(value.dtype), value.shape):
            wanted = f"{value.dtype} {list(value.shape)}"
            raise RejectedReply(f"{begin}: array {key!r} must be {wanted}, got {dtype} {list(shape)[:10]}")


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


def check_arrays(found: Mapping[str, NDArray[np.generic]], expected: Mapping[str, NDArray[np.generic]]) -> None:
    """Raise RejectedReply unless names, shapes and dtypes agree and every number is finite."""
    if found.keys() != expected.keys():
        missing, extra = expected.keys() - found.keys(), found.keys() - expected.keys()
        raise RejectedReply(f"its arrays have other names: {len(missing)} missing, {len(extra)} unknown")
    for key, value in found.items():
        if value.shape != expected[key].shape or value.dtype != expected[key].dtype:
            wanted = f"{expected[key].dtype} {list(expected[key].shape)}"
            raise RejectedReply(f"array {key!r} must be {wanted}, got {value.dtype} {list(value.shape)}")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise RejectedReply(f"array {key!r} holds a number that is not finite")
