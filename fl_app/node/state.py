"""A node's name, where it keeps its files, and its optimiser state and own weights between rounds."""

import hashlib
import logging
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fl_app.errors import OptionError, RunFolderError
from fl_app.files import make_private, remove_partial, replacing
from fl_app.options.node import NodeConfig
from fl_app.runs.pairs import STATE_FILE

log = logging.getLogger(__name__)

_DIGEST = "sha256"
_PARTS = ("weights/", "optimizer/")
_FILE = re.compile(r"state-(-?\d{4,})\.safetensors")


def site_name(node: NodeConfig) -> str:
    """Return a node's name: the hospital's own, or `site-<partition-id>` in a simulation.

    Raises:
        OptionError: the node is neither a hospital nor a simulated node.
    """
    if node.has_own_folder:
        return _safe_name("Node option 'site'", node.site)
    if node.partition_id is None or node.num_partitions is None:
        raise OptionError(
            "This node has no images: node options 'data-path' and 'site' are missing. "
            """Start it with: fl-app supernode --node-config 'data-path="<folder of images>" site="<name>"'"""
        )
    if node.partition_id >= node.num_partitions:
        raise OptionError(
            f"Node option 'partition-id' must be less than 'num-partitions', {node.num_partitions}, "
            f"got {node.partition_id}."
        )
    return f"site-{node.partition_id}"


def state_folder(node: NodeConfig, run_folder: str, run_name: str, task: str) -> Path:
    """Return the folder of a node's optimiser state between rounds, without creating it.

    Args:
        node: a hospital's own options decide; it never writes to a folder that the server names.
        run_folder: the server's run folder, used in a simulation only, where both share a machine.
        run_name: as the server sent it.
        task: task or baseline, as the server sent it.

    Raises:
        OptionError: the name of the run, the site or the task is not allowed as a folder's name.
    """
    run_name, task = _safe_name("The run's name", run_name), _safe_name("The task's name", task)
    base, site = state_base(node, run_folder), site_name(node)
    return base / site / task if is_in_run_folder(node, run_folder) else base / run_name / site / task


def state_base(node: NodeConfig, run_folder: str) -> Path:
    """Return the folder of a node's state for all runs (in a simulation: this run), without creating it."""
    if is_in_run_folder(node, run_folder):
        return Path(run_folder) / "nodes"
    return node.state_folder


def is_in_run_folder(node: NodeConfig, run_folder: str) -> bool:
    """Return whether the node is simulated and `run_folder` is a run's folder on this machine."""
    return node.is_simulated and bool(run_folder) and (Path(run_folder) / "run.json").is_file()


class RunFile(Enum):
    """Files that a hospital's node keeps of a task in a run, as patterns; `forget_run` deletes each of them."""

    HISTORY = "history.safetensors"
    STEPS = "history.json"
    ANSWER = "answered-*.safetensors"
    DRAWN = "generated-*.safetensors"
    DRAWN_LOCK = "generated-*.lock"
    REPLAY = "replay.json"
    PAIRS = STATE_FILE

    def path(self, folder: Path, name: str = "") -> Path:
        """Return the file in the folder of a task's state, with its name in the pattern's place."""
        return folder / self.value.replace("*", name)


def forget_run(folder: Path) -> None:
    """Delete all that is known of a run that begins anew, from the folder of a task's state; raises OSError."""
    for kind in RunFile:
        for path in folder.glob(kind.value):
            path.unlink(missing_ok=True)


def key_file(node: NodeConfig) -> Path:
    """Return the file of a hospital's secret key: see `split.find_key`."""
    return node.state_folder / f"split-key@{site_name(node)}"  # no run's name has an @


def used_file(node: NodeConfig, directory: Path) -> Path:
    """Return the file that remembers which images of a folder a hospital has used: see `split.settle`."""
    of_folder = hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16]
    return node.state_folder / f"used@{site_name(node)}-{of_folder}.safetensors"


class NodeState:
    """States by round, so that a run that is resumed from an earlier round finds the state of that round.

    If a state cannot be read or written, the node warns and starts afresh; the round goes on.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def load_before(self, round_number: int) -> dict[str, Tensor] | None:
        """Read the newest state from before a round; None if there is none."""
        earlier = [number for number in self._rounds() if number < round_number]
        if not earlier:
            return None
        try:
            with safe_open(self._path(max(earlier)), "pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
                metadata = file.metadata()
            if metadata is not None and metadata.get(_DIGEST) != digest(state):  # earlier versions wrote no metadata
                raise SafetensorError("its SHA-256 differs")
        except (OSError, SafetensorError) as error:
            log.warning("The state of round %d is damaged (%s): starting afresh", max(earlier), error)
            return None
        return state

    def save(self, round_number: int, state: Mapping[str, Tensor]) -> None:
        """Write the state after a round; delete those of later rounds and all but the newest `keep`."""
        try:
            make_private(self.folder)
            remove_partial(self.folder)
            with replacing(self._path(round_number)) as temporary:
                save_file(dict(state), temporary, {_DIGEST: digest(state)})
        except (OSError, ValueError, RunFolderError) as error:
            log.warning("The state of the round cannot be kept in %s: %s", self.folder, error)
            return
        rounds = self._rounds()
        earlier = [number for number in rounds if number <= round_number]
        for number in rounds[len(earlier) :] + earlier[: -self.keep]:
            self._path(number).unlink(missing_ok=True)

    def load_parts(self, round_number: int) -> tuple[dict[str, Tensor] | None, dict[str, Tensor] | None]:
        """Read weights and optimiser state from before a round; None if missing."""
        found = self.load_before(round_number) or {}
        weights, optimizer = ({k.removeprefix(p): v for k, v in found.items() if k.startswith(p)} for p in _PARTS)
        return weights or None, optimizer or None

    def save_parts(self, round_number: int, weights: Mapping[str, Tensor], optimizer: Mapping[str, Tensor]) -> None:
        """Write weights and optimiser state after a round; either may be empty."""
        parts = zip(_PARTS, (weights, optimizer), strict=True)
        self.save(round_number, {p + k: v.detach().cpu().contiguous() for p, part in parts for k, v in part.items()})

    def _path(self, round_number: int) -> Path:
        return self.folder / f"state-{round_number:04d}.safetensors"

    def _rounds(self) -> list[int]:
        found = (_FILE.fullmatch(path.name) for path in self.folder.glob("state-*.safetensors"))
        return sorted(int(match[1]) for match in found if match)


def _safe_name(what: str, name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or name in (".", ".."):
        raise OptionError(
            f"{what} must consist of the letters a to z and A to Z, digits, '_', '.' or '-', got {name!r}."
        )
    return name


def digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for key in sorted(state):
        value = state[key].contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
