"""Every private interface of Flower that fl-app uses: the first place to look when Flower changes.

Flower keeps the names in `flwr.app`, `flwr.serverapp` and `flwr.clientapp` stable, but not these. Each has a test in
`tests/test_flower.py`. The options and the JSON of Flower's commands are in `simulation/flower.py` and `cli/flower.py`,
and tested by real runs. Tests also use `flwr.cli.build` and `flwr.common.serde`.
"""

import importlib
import inspect
import json
import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

import click
import numpy as np
from flwr.app import Error, Message
from flwr.common.config import parse_config_args
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray

from fl_app.errors import FlAppError

# Flower's own, which others import from here:
__all__ = ["DecodeError", "ErrorCode", "NodeInfo", "ObjectPushError", "Run", "TaskIdentity"]

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


def write_node_config(options: Mapping[str, bool | int | float | str]) -> str:
    """Write options as `parse_node_config` reads them; raises ValueError if a text holds both kinds of quotes."""

    def write(value: bool | int | float | str) -> str:
        if not isinstance(value, str):
            return str(value).lower()
        if "'" in value and '"' in value:
            raise ValueError(f"--node-config cannot hold both kinds of quotes, got {value}")
        return json.dumps(value, ensure_ascii=False) if "'" in value else f"'{value}'"

    return " ".join(f"{name}={write(value)}" for name, value in options.items())


def find_unknown_options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words among the arguments that `flower-supernode` does not know, and the options that it knows."""
    from flwr.supernode.cli.flower_supernode import _parse_args_run_supernode

    parser = _parse_args_run_supernode()
    return parser.parse_known_args(list(arguments))[1], re.findall(r"--[a-z][a-z-]*", parser.format_usage())


@dataclass(frozen=True)
class NodeConnection:
    """The arguments of `flower-supernode` about its connections; None: not given.

    Attributes:
        superlink: HOST:PORT of the SuperLink.
        root_certificates: file of the certificate authority.
        private_key: file of the node's key.
        host: where the node's own processes reach it.
        port: of that host.
    """

    superlink: str
    root_certificates: str | None
    private_key: str | None
    host: str
    port: int


def read_connection(arguments: Sequence[str]) -> NodeConnection:
    """Read the arguments about connections, with the defaults of `flower-supernode`."""
    from flwr.supernode.cli.flower_supernode import _parse_args_run_supernode

    found, _ = _parse_args_run_supernode().parse_known_args(list(arguments))
    return NodeConnection(
        found.superlink, found.root_certificates, found.auth_supernode_private_key, found.host, found.port
    )


def run_supernode(arguments: Sequence[str]) -> None:
    """Run Flower's SuperNode in this process, with the arguments of `flower-supernode`."""
    from flwr.supernode.cli import flower_supernode  # takes a second to import

    if shutil.which("flower-superexec") is None:  # this program was started by its path, the environment is not active
        os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    sys.argv = ["flower-supernode", *arguments]
    flower_supernode()


def registered_nodes(connection: str) -> list[NodeInfo]:
    """Ask a SuperLink for its registered nodes, with names and keys, which `flwr supernode list` leaves out.

    Args:
        connection: a name in Flower's config.toml.

    Raises:
        FlAppError: the connection does not exist, or the SuperLink does not answer.
    """
    from flwr.cli import flower_config, utils  # take a second to import
    from flwr.proto.control_pb2 import ListNodesRequest

    try:
        with redirect_stdout(StringIO()), utils.flwr_cli_exc_handler():  # it prints the address
            client = utils.init_http_client_from_connection(flower_config.read_superlink_connection(connection))
            try:
                return list(client.ListNodes(ListNodesRequest()).nodes_info)
            finally:
                client.close()
    except click.ClickException as error:
        lines = error.message.strip().splitlines()
        raise FlAppError(f"Flower's answer about '{connection}': {lines[-1] if lines else 'none'}") from None


def build_bundle(app: Path | Mapping[str, Path]) -> bytes:
    """Build the bundle (FAB) that `flwr run` makes of an app.

    Args:
        app: its folder, or its files by their place in that folder.

    Raises:
        ValueError: the files are no app, or the bundle is too large.
    """
    from flwr.cli.build import build_fab_from_disk, build_fab_from_files  # takes a second to import

    return build_fab_from_disk(app) if isinstance(app, Path) else build_fab_from_files(app)[0]


@dataclass(frozen=True)
class ReceivedBundle:
    """A bundle (FAB) that a SuperNode has received and not stored yet.

    Attributes:
        content: the bundle's bytes.
        claimed_hashes: the SHA-256 that the SuperLink states, of the run and of the bundle.
        claimed_name: the publisher, name and version that the SuperLink states; Flower finds the code by them.
    """

    content: bytes
    claimed_hashes: tuple[str, str]
    claimed_name: tuple[str, str]


def folder_of(bundle: ReceivedBundle) -> Path:
    """Return the folder where Flower unpacks a bundle, or finds it unpacked: 8 digits of its hash are in the name."""
    from flwr.common.config import get_project_dir

    return get_project_dir(*bundle.claimed_name, bundle.claimed_hashes[1])


class _Refused(Exception):
    """A bundle is refused; the text is the answer."""


_OF_PULLING = ("state", "object_store", "receive", "get_run", "get_fab")
_OF_INSERTING = ("msg", "state", "store")


def check_bundles(fault_of: Callable[[ReceivedBundle], str | None]) -> None:
    """Have this process's SuperNode ask about each bundle before it stores anything of it.

    A bundle with a fault is dropped. The run gets an error reply with the fault's text, and the SuperNode goes on with
    other runs. Flower asks for a bundle whenever a message of a run arrives that it does not know; refused runs stay
    unknown. Its executors get what the SuperNode has stored, so this holds in both isolations.

    Args:
        fault_of: returns the text of the refusal; None: the bundle may be executed.

    Raises:
        FlAppError: the installed Flower receives bundles in another way.
    """
    loop = importlib.import_module("flwr.supernode.start_client_internal")
    pull: Any = getattr(loop, "_pull_and_store_message", None)
    insert: Any = getattr(loop, "_insert_message", None)
    start = getattr(loop, "start_client_internal", None)
    is_called = inspect.isfunction(start) and "_pull_and_store_message" in start.__code__.co_names
    if not (_takes(pull, _OF_PULLING) and _takes(insert, _OF_INSERTING) and is_called):
        raise FlAppError(
            f"The code of runs cannot be checked with flwr {version('flwr')}, whose SuperNode receives it in another "
            "way. Install the version of flwr that fl-app names."
        )

    def pull_checked(*, state: Any, object_store: Any, receive: Any, get_run: Any, get_fab: Any, **others: Any) -> Any:
        received: list[Message] = []
        runs: dict[int, Run] = {}

        def receive_noted() -> Any:
            found = receive()
            received.extend([found[0]] if found is not None else [])
            return found

        def get_run_noted(run_id: int) -> Run:
            runs[run_id] = get_run(run_id)
            return runs[run_id]

        def get_checked(fab_hash: str, run_id: int) -> Any:
            fab, run = get_fab(fab_hash, run_id), runs[run_id]
            name = (run.fab_id, run.fab_version)
            fault = fault_of(ReceivedBundle(fab.content, (run.fab_hash, fab.hash_str), name))
            if fault is not None:
                raise _Refused(fault)
            return fab

        door = {"receive": receive_noted, "get_run": get_run_noted, "get_fab": get_checked}
        try:
            return pull(state=state, object_store=object_store, **door, **others)
        except _Refused as refusal:
            reply = Message(Error(ErrorCode.INVALID_FAB, str(refusal)), reply_to=received[0])
            insert(reply, state, object_store)
            return received[0].metadata.run_id

    vars(loop)["_pull_and_store_message"] = pull_checked


def _takes(function: object, names: Sequence[str]) -> bool:
    return callable(function) and {*names} <= {*inspect.signature(function).parameters}
