"""What a node sends is measured before it is read, and made harmless before it is shown."""

import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fl_app.data.images import DatasetInfo
from fl_app.errors import RejectedReply
from fl_app.logs import LONGEST_REASON, clean_text
from fl_app.messages.arrays import Weights, array_record, pack
from fl_app.messages.descriptions import SiteDescription, read_description, write_description
from fl_app.messages.records import DESCRIBE, Reply, read_reply, read_sums, write_reply
from fl_app.strategies.outcomes import RoundRecord, shorten
from fl_app.strategies.transport import PlainWire

SUMS = {"raw/loss-sum": np.zeros(4), "raw/loss-count": np.zeros(4)}
WEIGHTS: Weights = {"w": np.zeros((2, 3), np.float32)}
COUNTS = [1, 2]


@contextmanager
def costing_at_most(num_bytes: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < num_bytes
    finally:
        tracemalloc.stop()


def of_bytes(data: bytes) -> RecordDict:
    array = Array(dtype="uint8", shape=(len(data),), stype="safetensors", data=data)
    return RecordDict({"statistics": ArrayRecord({"safetensors": array})})


def test_sums_of_200_megabytes_cost_nothing() -> None:
    content = of_bytes(struct.pack("<Q", 80) + bytes(200_000_000))
    with costing_at_most(100_000), pytest.raises(RejectedReply, match=r"takes 200\.0 MB, expected at most 0\.0 MB"):
        read_sums(content, SUMS)


LARGE: Weights = {"raw/loss-sum": np.zeros(5_000_000)}
OTHERS: dict[str, Weights] = {
    "uint8": {"raw/loss-sum": np.zeros(40_000_000, np.uint8)},
    "float16": {"raw/loss-sum": np.zeros(20_000_000, np.float16)},
    "another shape": {"raw/loss-sum": np.zeros((2, 2_500_000))},
    "another name": {"raw/loss": np.zeros(5_000_000)},
    "two arrays": {"raw/loss": np.zeros(1), "raw/loss-sum": np.zeros(4_999_999)},
}


@pytest.mark.parametrize("wrong", OTHERS)
def test_sums_of_another_form_are_neither_copied_nor_cast(wrong: str) -> None:
    content = RecordDict({"statistics": pack(OTHERS[wrong])})
    with costing_at_most(100_000), pytest.raises(RejectedReply, match="other names or shapes than those asked for"):
        read_sums(content, LARGE)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", OTHERS)
def test_weights_of_another_form_are_not_copied(wrong: str) -> None:
    content = write_reply(Reply("a", "diffusion", 1, 5.0, OTHERS[wrong], sums=SUMS))
    message = Message(content, dst_node_id=1, message_type="train")
    with costing_at_most(100_000), pytest.raises(RejectedReply, match="its 'weights' have other names or shapes"):
        read_reply(message, LARGE, SUMS)


@pytest.mark.parametrize("wrong", OTHERS)
def test_arrays_of_an_ordinary_app_of_another_form_are_neither_copied_nor_cast(wrong: str) -> None:
    found = array_record(OTHERS[wrong])
    message = Message(
        RecordDict({"weights": found, "metrics": MetricRecord({"num-examples": 1})}),
        dst_node_id=1,
        message_type="train",
    )
    wire = PlainWire("num-examples", "weights")
    with costing_at_most(100_000):
        with pytest.raises(RejectedReply, match="its 'weights' have other names or shapes"):
            wire.read_reply(message, "a", RoundRecord("model", 1), LARGE, {})
        with pytest.raises(RejectedReply, match=r"its 'sums' have other names or shapes|takes"):
            wire.read_sums(RecordDict({"sums": found}), LARGE)  # type: ignore[arg-type]


def test_sums_of_an_ordinary_app_may_be_of_any_number_type() -> None:
    content = RecordDict({"sums": array_record({"correct": np.ones(3, np.int64)})})
    found = PlainWire("num-examples", "weights").read_sums(content, {"correct": np.zeros(3)})
    assert found["correct"].dtype == np.float64 and found["correct"].tolist() == [1.0, 1.0, 1.0]


def test_an_array_that_says_another_shape_than_it_has_is_refused() -> None:
    large = Array(np.zeros(5_000_000))
    said = Array(dtype="float64", shape=(3,), stype=large.stype, data=large.data)
    content = RecordDict({"sums": ArrayRecord({"correct": said})})
    wire = PlainWire("num-examples", "weights")
    with costing_at_most(100_000), pytest.raises(RejectedReply, match=r"takes 40\.0 MB, more than its shape tells"):
        wire.read_sums(content, {"correct": np.zeros(3)})
    small = Array(np.zeros(4, np.uint8))
    said = Array(dtype="float64", shape=(3,), stype=small.stype, data=small.data)
    with pytest.raises(RejectedReply, match="other shapes than they say"):
        wire.read_sums(RecordDict({"sums": ArrayRecord({"correct": said})}), {"correct": np.zeros(3)})


def test_a_header_that_names_too_many_arrays_is_not_read() -> None:
    like = {"raw/loss-sum": np.zeros(4_000_000)}
    content = of_bytes(struct.pack("<Q", 30_000_000) + b"{" * 30_000_000)
    with costing_at_most(100_000), pytest.raises(RejectedReply, match="names too many arrays"):
        read_sums(content, like)


def test_300_000_arrays_in_place_of_one_are_refused_by_their_number() -> None:
    empty = Array(np.zeros(0, np.float64))
    content = RecordDict({"statistics": ArrayRecord({str(number): empty for number in range(300_000)})})
    with costing_at_most(100_000), pytest.raises(RejectedReply, match="one packed array, got 300000"):
        read_sums(content, SUMS)


def test_weights_larger_than_those_that_were_sent_are_not_read() -> None:
    reply = Reply("a", "diffusion", 1, 5.0, {"w": np.zeros((2, 30_000), np.float32)}, sums=SUMS)
    message = Message(write_reply(reply), dst_node_id=1, message_type="train")
    with pytest.raises(RejectedReply, match=r"its 'weights' takes 0\.2 MB"):
        read_reply(message, WEIGHTS, SUMS)


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=20), st.lists(st.integers(0, 3), max_size=4).map(tuple), min_size=0, max_size=5
    )
)
def test_an_honest_answer_is_never_too_large(shapes: dict[str, tuple[int, ...]]) -> None:
    sums = {name: np.zeros(shape) for name, shape in shapes.items()}
    found = read_sums(RecordDict({"statistics": pack(sums)}), sums)
    assert {name: value.shape for name, value in found.items()} == shapes


def test_an_error_text_of_200_megabytes_is_cut_before_it_is_split() -> None:
    text = "a b\n" * 50_000_000
    with costing_at_most(100_000):
        assert len(shorten(text)) == LONGEST_REASON + 1


@given(st.text())
def test_a_text_from_outside_is_one_line_and_commands_no_terminal(text: str) -> None:
    found = clean_text(text)
    assert "\x1b" not in found and "\x9b" not in found and "\u202e" not in found and len(found.splitlines()) <= 1
    assert len(found) <= LONGEST_REASON + 1
    assert clean_text(found) == found


def test_letters_of_all_alphabets_stay() -> None:
    name = "Plattenepithel Ösophagus 食道 ‌क्‍ष"
    assert clean_text(name) == name


def description(**changes: object) -> Message:
    described = SiteDescription("north", DatasetInfo(("a", "b"), 1, 8), COUNTS, COUNTS, COUNTS)
    node = dict(write_description(described).config_records["node"])
    node |= {name.replace("_", "-"): value for name, value in changes.items()}  # type: ignore[misc]
    return Message(RecordDict({"node": ConfigRecord(node)}), dst_node_id=1, message_type=DESCRIBE)


def test_a_description_arrives_as_it_was_sent() -> None:
    found = read_description(description())
    assert (found.site, found.counts()) == ("north", dict.fromkeys(("train", "validation", "test"), COUNTS))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": ["a"] * 1_000_000}, "1000000 class names, at most 10000"),
        ({"class_names": ["a" * 10_000_000, "b"]}, "at most 1024 characters"),
        ({"train_counts": [1] * 1_000_000}, "1000000 counts, at most 10000"),
        ({"train_counts": ["1", "2"]}, "cannot be read"),
        ({"train_counts": [1.5, 2.5]}, "cannot be read"),
        ({"num_channels": "1"}, "cannot be read"),
        ({"site": 5}, "cannot be read"),
    ],
)
def test_a_description_of_another_kind_or_size_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(RejectedReply, match=words):
        read_description(description(**changes))


def test_a_round_that_is_a_text_is_refused() -> None:
    content = write_reply(Reply("a", "diffusion", 1, 5.0, WEIGHTS, sums=SUMS))
    content["node"] = ConfigRecord({"site": "a", "task": "diffusion", "server-round": "1"})
    with pytest.raises(RejectedReply, match="cannot be read"):
        read_reply(Message(content, dst_node_id=1, message_type="train"), WEIGHTS, SUMS)


def test_no_command_is_left_in_an_error_that_a_node_sends() -> None:
    assert shorten(Error(2, "\x1b[31mred\x07 \u202efdp.exe").reason) == "[31mred fdp.exe"
