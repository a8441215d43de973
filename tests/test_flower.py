"""What fl-app takes from Flower without Flower's promise: when one of these fails, Flower has moved."""

import importlib
import inspect
from collections.abc import Iterable
from typing import Any, get_type_hints

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.proto.message_pb2 import PushObjectResponse
from flwr.proto.node_pb2 import Node
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvgM, FedYogi
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_push_object_fn_protobuf

from benchmarks.instant_grid import InstantGrid
from fl_app.flower import (
    SERVER_STATE,
    DecodeError,
    ErrorCode,
    NodeInfo,
    ObjectPushError,
    Run,
    TaskIdentity,
    find_unknown_options,
    identify,
    name_message,
    parse_node_config,
)
from fl_app.strategies.outcomes import failure


def test_the_codes_of_the_errors_that_flower_makes_up_mean_what_they_meant() -> None:
    names = (
        "MESSAGE_UNAVAILABLE",
        "REPLY_MESSAGE_UNAVAILABLE",
        "NODE_UNAVAILABLE",
        "INVALID_FAB",
        "CLIENT_APP_CRASHED",
    )
    assert [getattr(ErrorCode, name) for name in names] == [3, 4, 5, 7, 8]
    known = {name for name in vars(ErrorCode) if name.isupper()}
    others = {"UNKNOWN", "LOAD_CLIENT_APP_EXCEPTION", "CLIENT_APP_RAISED_EXCEPTION", "MOD_FAILED_PRECONDITION"}
    assert known == {*names, *others}, "Flower has a new error: give it words in strategies/outcomes.py"


def test_an_error_travels_with_its_code_and_reason() -> None:
    message = Message(RecordDict(), dst_node_id=1, message_type="train")
    reply = Message(Error(ErrorCode.NODE_UNAVAILABLE, "why"), reply_to=message)
    assert (reply.error.code, reply.error.reason) == (ErrorCode.NODE_UNAVAILABLE, "why")


def test_a_process_can_be_given_an_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, None)
    identify(7, 8)
    assert (TaskIdentity.run_id, TaskIdentity.node_id) == (7, 8)
    assert Message(RecordDict(), dst_node_id=1, message_type="train").metadata.src_node_id == 8


def test_a_message_can_be_named() -> None:
    message = Message(RecordDict(), dst_node_id=1, message_type="train")
    name_message(message, "message-1")
    assert message.metadata.message_id == "message-1"
    assert Message(RecordDict(), reply_to=message).metadata.reply_to_message_id == "message-1"


def test_a_message_that_is_pushed_again_is_the_same_to_the_superlink() -> None:
    message = Message(RecordDict({"a": ConfigRecord({"b": 1})}), dst_node_id=1, message_type="train")
    key = message.object_id
    name_message(message, key)
    assert message.object_id == key


def test_an_object_that_the_superlink_does_not_store_raises_this_error() -> None:
    node = Node(node_id=1)
    push = make_push_object_fn_protobuf(lambda _: PushObjectResponse(stored=False), node, 1, "session")
    with pytest.raises(ObjectPushError):
        push("an object", b"")


def test_a_grid_speaks_of_nodes_and_runs_in_these_classes() -> None:
    assert get_type_hints(Grid.get_nodes)["return"] == Iterable[NodeInfo]
    assert get_type_hints(Grid.set_run)["run"] is Run
    assert get_type_hints(Grid.run.fget)["return"] is Run  # type: ignore[attr-defined]


def test_a_node_is_known_by_its_id() -> None:
    class Empty(InstantGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            return []

    grid = Empty([3, 2**63 + 1])
    for nodes in (Grid.get_nodes(grid), grid.get_nodes()):
        assert [node.node_id for node in nodes] == [3, 2**63 + 1]


def test_bytes_that_are_no_message_of_flower_raise_this_error_and_no_other_that_is_caught() -> None:
    with pytest.raises(DecodeError):
        NodeInfo.FromString(b"\xff\xff")
    caught = (AttributeError, LookupError, TypeError, ValueError, ArithmeticError)
    assert not issubclass(DecodeError, caught), "strategies/transport.py need not name it any more"
    assert importlib.import_module("flwr.supercore.protobuf.translation").DecodeError is DecodeError


def test_options_of_a_node_are_read_as_flower_reads_them() -> None:
    assert parse_node_config('site="north" partition-id=3 share=0.5 fast=true') == {
        "site": "north",
        "partition-id": 3,
        "share": 0.5,
        "fast": True,
    }
    assert parse_node_config("") == {}


def test_the_options_of_the_supernode_are_known() -> None:
    unknown, known = find_unknown_options(["--superlink", "localhost:1", "--superlnk=x", "--insecure"])
    assert unknown == ["--superlnk=x"]
    assert {"--superlink", "--root-certificates", "--node-config", "--insecure"} <= set(known)


def test_the_supernode_is_a_function_without_arguments_that_reads_the_command_line() -> None:
    function = importlib.import_module("flwr.supernode.cli").flower_supernode
    assert callable(function) and not inspect.signature(function).parameters


@pytest.mark.parametrize("strategy", [FedAdam, FedYogi, FedAdagrad, FedAvgM])
def test_a_strategys_optimiser_is_kept_where_a_checkpoint_takes_it_from(strategy: Any) -> None:
    options = {"server_momentum": 0.9} if strategy is FedAvgM else {}
    one = strategy(**options)
    weights = ArrayRecord({"w": Array(np.ones(2, np.float32))})
    nodes = type("Nodes", (), {"get_node_ids": lambda self: [1, 2]})()
    for number in (1, 2):
        messages = list(one.configure_train(number, weights, ConfigRecord(), nodes))
        for message in messages:
            name_message(message, f"message-{message.metadata.dst_node_id}")
        content = RecordDict({"arrays": weights, "metrics": MetricRecord({"num-examples": 1.0})})
        one.aggregate_train(number, [Message(content, reply_to=message) for message in messages])
    assert any(getattr(one, name, None) is not None for name in SERVER_STATE)


def test_flower_says_in_these_words_that_a_bundle_has_no_known_signature() -> None:
    loop = importlib.import_module("flwr.supernode.start_client_internal")
    signature, approval = loop.FAB_VERIFICATION_ERROR, Error(ErrorCode.INVALID_FAB, "this node executes approved code")
    assert failure(signature).reason == "it does not trust this run's code: no known signature"
    assert failure(approval).reason == "this node executes approved code"
