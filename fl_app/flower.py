"""Every private interface of Flower that fl-app uses: the first place to look when Flower changes.

Flower keeps the names in `flwr.app`, `flwr.serverapp` and `flwr.clientapp` stable, but not these. Each has a test in
`tests/test_flower.py`. The options and the JSON of Flower's commands are in `simulation/flower.py` and `cli/flower.py`,
and tested by real runs. Tests also use `flwr.cli.build` and `flwr.common.serde`.
"""

import sys
from collections.abc import Mapping, Sequence

import numpy as np
from flwr.app import Message
from flwr.common.config import parse_config_args
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray

__all__ = ["DecodeError", "ErrorCode", "NodeInfo", "Run", "TaskIdentity"]  # Flower's own, which others import from here

SERVER_STATE = ("m_t", "v_t", "momentum_vector")  # optimiser state of FedAdam, FedYogi, FedAdagrad and FedAvgM


def server_state(strategy: object) -> dict[str, NDArray[np.generic]]:
    """Return the state of a strategy's server optimiser, by `<attribute>/<name or position>`."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name in SERVER_STATE:
        value = getattr(strategy, name, None)
        entries = value.items() if isinstance(value, dict) else enumerate(value or [])
        arrays.update({f"{name}/{key}": np.asarray(entry) for key, entry in entries})
    return arrays


def restore_server_state(strategy: object, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Give a strategy the state that `server_state` returned; other arrays are ignored."""
    for name in SERVER_STATE:
        found = {key.split("/", 1)[1]: value for key, value in arrays.items() if key.startswith(f"{name}/")}
        if found:
            as_list = name == "momentum_vector"
            setattr(strategy, name, [found[str(i)] for i in range(len(found))] if as_list else found)


def identify(run_id: int, node_id: int) -> None:
    """Set the ids of run and node for this process, as Flower's own processes do before they call an app."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run_id, node_id, 1


def name_message(message: Message, message_id: str) -> None:
    """Give a message an id, as a grid does when it sends it."""
    message.metadata.__dict__["_message_id"] = message_id


def parse_node_config(text: str) -> dict[str, bool | int | float | str]:
    """Read `--node-config` as flower-supernode does; raises ClickException, OSError or ValueError if it is invalid."""
    found: dict[str, bool | int | float | str] = parse_config_args([text] if text else None)
    return found


def run_supernode(arguments: Sequence[str]) -> None:
    """Run Flower's SuperNode in this process, with the arguments of `flower-supernode`."""
    from flwr.supernode.cli import flower_supernode  # takes a second to import

    sys.argv = ["flower-supernode", *arguments]
    flower_supernode()
