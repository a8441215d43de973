"""Arrays travel packed: every name, shape, type and bit arrives, in one object for Flower however many there are."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors import SafetensorError

from fl_app.data.images import ImageSet
from fl_app.errors import OptionError
from fl_app.messages.arrays import Weights, array_record, num_bytes, pack, packed, to_numpy, to_weights, unpack
from fl_app.messages.quality import QUALITY, read_generated, write_generated
from fl_app.messages.records import add_models, instruction_config, read_instruction

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


def unnamed(content: RecordDict) -> None:
    del content.config_records["config"]["task"]


def of_another_type(content: RecordDict) -> None:
    content.config_records["config"]["server-round"] = "1"


def of_no_whole_round(content: RecordDict) -> None:
    content.config_records["config"]["server-round"] = True


def without_options(content: RecordDict) -> None:
    del content["config"]


def without_weights(content: RecordDict) -> None:
    del content["weights"]


def cut_off(content: RecordDict) -> None:
    (whole,) = content.array_records["ema"].values()
    cut = Array(dtype="uint8", shape=(7,), stype=whole.stype, data=whole.data[:7])
    content["ema"] = ArrayRecord({"safetensors": cut})


def unpacked(content: RecordDict) -> None:
    content["weights"] = array_record({"a": np.ones(3)})


DAMAGES = (unnamed, of_another_type, of_no_whole_round, without_options, without_weights, cut_off, unpacked)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ["train", QUALITY])
def test_a_damaged_instruction_is_one_error_that_says_so(damage: Callable[[RecordDict], None], kind: str) -> None:
    def message() -> Message:
        named: Weights = {"a": np.ones(3)}
        images = ImageSet(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), ("a",))
        content = write_generated(instruction_config("diffusion", 1, "run", ""), "pixels", images, named)
        add_models(content, ema=named, node_ema=None)
        return Message(packed(content), dst_node_id=1, message_type=kind)

    read: Callable[[Message], object] = read_generated if kind == QUALITY else read_instruction
    read(message())
    damaged = message()
    damage(damaged.content)
    with pytest.raises(OptionError, match=f"The message '{kind}' is damaged"):
        read(damaged)
