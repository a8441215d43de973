"""Checkpoints: folders of weights and of what a resumed run needs beside them, written whole and checked when read."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fl_app.errors import RunFolderError
from fl_app.files import MANIFEST, check_manifest, replace_folder, write_manifest

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Checkpoint:
    """A model after a round, and what a resumed run needs beside it.

    Attributes:
        round_number: the last finished round.
        models: weights by name: `raw`, and `ema` and `node-ema` where there are any.
        state: the server optimiser's arrays.
        values: everything that is not an array.
    """

    round_number: int
    models: dict[str, Arrays]
    state: Arrays
    values: dict[str, Any]


def write_checkpoint(target: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint folder under a temporary name and then rename it.

    Raises:
        RunFolderError: the disk is full or cannot be written; nothing under the name of `target` has changed.
    """

    def write(folder: Path) -> None:
        for name, weights in checkpoint.models.items():
            save_file(_contiguous(weights), folder / f"{name}.safetensors")
        save_file(_contiguous(checkpoint.state), folder / "server-optimizer.safetensors")
        values = {"round": checkpoint.round_number, "models": sorted(checkpoint.models), "values": checkpoint.values}
        (folder / "state.json").write_text(json.dumps(values, indent=1, allow_nan=False), encoding="utf-8")
        write_manifest(folder)

    try:
        replace_folder(target, write)
    except RunFolderError as error:
        raise RunFolderError(f"{error} The earlier checkpoints are whole; make room and resume.") from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint folder.

    Raises:
        RunFolderError: a file is missing or is not as it was written.
    """
    named = check_manifest(path)
    try:
        document = json.loads((path / "state.json").read_text(encoding="utf-8"))
        files = {name: f"{name}.safetensors" for name in [*document["models"], "server-optimizer"]}
        if not named >= {"state.json", *files.values()}:
            raise RunFolderError(f"{path} is damaged: {MANIFEST} does not name all files.")
        arrays = {name: load_file(path / file) for name, file in files.items()}
        state = arrays.pop("server-optimizer")
        return Checkpoint(int(document["round"]), arrays, state, document["values"])
    except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
        raise RunFolderError(f"{path} is damaged ({type(error).__name__}).") from None


def _contiguous(arrays: Arrays) -> Arrays:
    return {key: np.ascontiguousarray(value).reshape(value.shape) for key, value in arrays.items()}
