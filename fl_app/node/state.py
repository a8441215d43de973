"""Stores a node's optimiser state and own weights between rounds, one file for each round."""

import hashlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fl_app.errors import RunFolderError
from fl_app.files import make_private, remove_partial, replacing

log = logging.getLogger(__name__)

_DIGEST = "sha256"
_PARTS = ("weights/", "optimizer/")
_FILE = re.compile(r"state-(-?\d{4,})\.safetensors")


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
            if metadata is not None and metadata.get(_DIGEST) != _digest(state):  # earlier versions wrote no metadata
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
                save_file(dict(state), temporary, {_DIGEST: _digest(state)})
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


def _digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for key in sorted(state):
        value = state[key].contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
