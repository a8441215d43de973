"""What a message holds, without its values, and a hash that is the same at both ends of the way."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto

from fl_app.messages.arrays import Weights, pack
from fl_app.messages.contents import contents_of, digest
from fl_app.messages.records import DESCRIBE


def reply_of(content: RecordDict) -> Message:
    asked = Message(RecordDict(), dst_node_id=1, message_type=DESCRIBE)
    return Message(content, reply_to=asked)


def test_contents_are_names_forms_and_sizes_without_a_value() -> None:
    arrays: Weights = {"a": np.full((2, 3), 7.5, np.float32), "b": np.full((), 4711, np.int64)}
    content = RecordDict(
        {
            "weights": pack(arrays),
            "metrics": MetricRecord({"loss": 4711.5, "counts": [4711, 2]}),
            "node": ConfigRecord({"site": "north", "names": ["benign", "x"], "raw": b"123"}),
        }
    )
    found = contents_of(reply_of(content))
    assert found.records == {
        "weights": {"a": "F32 [2, 3]", "b": "I64 []"},
        "metrics": {"loss": "float", "counts": "list of 2"},
        "node": {"site": "text of 5 bytes", "names": "list of 2", "raw": "text of 3 bytes"},
    }
    packed = len(content.array_records["weights"]["safetensors"].data)
    assert found.num_bytes == packed + 3 * 8 + 5 + 7 + 3
    assert "4711" not in json.dumps(found.records) and "benign" not in json.dumps(found.records)


def contents() -> RecordDict:
    numbers = MetricRecord({"x": 0.1, "nan": float("nan"), "i": 3, "list": [1.5, 2.5]})
    config = ConfigRecord({"text": "ü", "yes": True, "raw": b"\0", "names": ["a", "b"]})
    return RecordDict({"weights": pack({"a": np.arange(4.0)}), "metrics": numbers, "node": config})


def test_the_hash_is_the_same_after_the_way_over_the_network() -> None:
    content = contents()
    arrived = recorddict_from_proto(recorddict_to_proto(content))
    backwards = RecordDict(dict(reversed(list(arrived.items()))))
    assert digest(content) == digest(arrived) == digest(backwards)


def change_array(content: RecordDict) -> None:
    content["weights"] = pack({"a": np.arange(4.0) + np.array([0, 0, 0, 1e-12])})


def change_dtype(content: RecordDict) -> None:
    array = content.array_records["weights"]["safetensors"]
    array.dtype = "int8"


CHANGES: list[Callable[[RecordDict], Any]] = [
    change_array,
    change_dtype,
    lambda content: content.metric_records["metrics"].update({"x": 0.1 + 1e-16}),
    lambda content: content.metric_records["metrics"].update({"i": 3.0}),
    lambda content: content.config_records["node"].update({"yes": False}),
    lambda content: content.config_records["node"].update({"names": ["a", "c"]}),
    lambda content: content.update({"more": ConfigRecord({"a": 1})}),
    lambda content: content.update({"other": content.pop("node")}),
]


@pytest.mark.parametrize("change", CHANGES)
def test_the_hash_is_another_with_every_change(change: Callable[[RecordDict], Any]) -> None:
    content = contents()
    change(content)
    assert digest(content) != digest(contents())
