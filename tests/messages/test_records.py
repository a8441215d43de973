"""Arrays travel packed: every name, shape, type and bit arrives, in one object for Flower however many there are."""

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors import SafetensorError

from fl_app.messages.arrays import array_record, num_bytes, pack, packed, to_numpy, to_weights, unpack

DTYPES = ("float64", "float32", "float16", "int64", "int32", "uint8", "bool")
NAMED = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.sampled_from(DTYPES).flatmap(lambda name: arrays.arrays(name, arrays.array_shapes(min_dims=0, min_side=0))),
    max_size=4,
)


@given(NAMED)
def test_what_is_packed_arrives_bit_for_bit(named: dict[str, np.ndarray]) -> None:
    found = unpack(pack(named))
    assert found.keys() == named.keys()
    for name, value in named.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        assert found[name].tobytes() == value.tobytes()


def test_a_tensor_whose_channels_come_last_in_memory_keeps_its_order() -> None:
    weights = torch.arange(24.0).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    found = unpack(pack(to_numpy({"conv": weights})))
    assert np.array_equal(found["conv"], weights.numpy())


def test_a_message_carries_one_array_for_each_record_and_leaves_the_rest_alone() -> None:
    named: dict[str, np.ndarray] = {"a": np.ones((2, 3), dtype=np.float32), "b": np.zeros(5)}
    config = ConfigRecord({"task": "diffusion"})
    content = RecordDict({"weights": array_record(named), "config": config})
    found = packed(content)
    assert len(found.array_records["weights"]) == 1 and found["config"] is config
    assert {name: value.tolist() for name, value in unpack(found.array_records["weights"]).items()} == {
        name: value.tolist() for name, value in named.items()
    }
    assert to_weights(content.array_records["weights"]).keys() == named.keys()  # the strategy's own is untouched
    assert num_bytes(found) >= 2 * 3 * 4 + 5 * 8


@pytest.mark.parametrize("keep", [0, 7, 60])
def test_bytes_that_are_cut_off_are_an_error_and_not_a_smaller_array(keep: int) -> None:
    (whole,) = pack({"a": np.ones(100)}).values()
    cut = Array(dtype=whole.dtype, shape=whole.shape, stype=whole.stype, data=whole.data[:keep])
    with pytest.raises(SafetensorError):
        unpack(ArrayRecord({"safetensors": cut}))
