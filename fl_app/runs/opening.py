"""Opening a run: a new folder, or one that is resumed."""

import json
import logging
import platform
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fl_app.data.images import DatasetInfo
from fl_app.errors import RunFolderError
from fl_app.files import make_private, to_json, write_json
from fl_app.options.run import RunConfig
from fl_app.runs.folder import RunFolder, read_options, read_status
from fl_app.runs.overview import runs_folder
from fl_app.runs.run_json import Agreed, RunDocument

log = logging.getLogger(__name__)

_FREE_TO_CHANGE = ("output-dir", "run-name", "resume", "recipe", "gallery-every")
_FREE_SECTIONS = ("federation.", "sampling.")
_PACKAGES = ("fl-app", "flwr", "torch", "diffusers", "numpy", "safetensors")


def open_run(config: RunConfig, run_id: int) -> RunFolder:
    """Make the run's folder with run.json in it, or find the one to resume; the folder comes back locked.

    Args:
        config: every option.
        run_id: Flower's, noted in run.json: a resumed run has one more.

    Raises:
        RunFolderError: it exists already, cannot be written, or belongs to a run of other options.
    """
    runs = runs_folder(config.output_dir).resolve()
    if config.resume == "auto":
        found = _newest_unfinished(runs, config)
        if found is not None:
            log.info("Going on with %s", found.path)
            _note_run_id(found, run_id)
            return found
        log.info("Nothing to resume in %s: a new run starts", runs)
    elif config.resume:
        folder = RunFolder(Path(config.resume).expanduser().resolve())
        _take(folder, config)
        _note_run_id(folder, run_id)
        return folder
    folder = RunFolder(runs / (config.run_name or new_run_name(config.recipe, f"{run_id % 0x10000:04x}")))
    _make(folder)
    folder.lock()  # first of all: of two starts under one name the later one writes nothing
    if folder.options_file.exists():
        folder.unlock()
        raise RunFolderError(
            f"{folder.path} holds a run already. Choose another 'run-name', or go on with it by resume = "
            f'"{folder.path}".'
        )
    document = RunDocument(
        run_name=folder.path.name,
        options=config.to_flat(),
        flower_runs=(str(run_id),),
        started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        seed=config.seed,
        versions=_versions(),
    )
    write_json(folder.options_file, to_json(document))
    return folder


def new_run_name(recipe: str, unique: str) -> str:
    """Return `<time>-<recipe>-<unique>`."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{recipe}-{unique}"


def _make(folder: RunFolder) -> None:
    """Make the run's folder where it is missing, and close it to other users; raises RunFolderError."""
    try:
        make_private(folder.path)
    except OSError as error:
        raise RunFolderError(f"{folder.path} cannot be written: {error.strerror}.") from error


def _take(folder: RunFolder, config: RunConfig) -> None:
    """Lock a folder that can be resumed; raises RunFolderError as `check_resumable` and `lock` do."""
    check_resumable(folder, config)  # before anything is written there
    _make(folder)
    folder.lock()
    try:
        check_resumable(folder, config)  # another server may have finished it meanwhile
    except RunFolderError:
        folder.unlock()
        raise


def _note_run_id(folder: RunFolder, run_id: int) -> None:
    document = read_options(folder)
    write_json(folder.options_file, document | {"flower-runs": [*document.get("flower-runs", []), str(run_id)]})


def add_nodes(folder: RunFolder, nodes: Mapping[str, Any]) -> None:
    """Add what new nodes say of their images to run.json; what a node said first stays."""
    document = read_options(folder)
    known = document.get("nodes", {})
    if nodes.keys() - known.keys():
        write_json(folder.options_file, document | {"nodes": dict(sorted({**nodes, **known}.items()))})


def note_agreement(folder: RunFolder, info: DatasetInfo) -> None:
    """Write into run.json what the hospitals agreed on."""
    agreed = Agreed(info.class_names, info.num_channels, info.image_size)
    write_json(folder.options_file, read_options(folder) | {"agreed": to_json(agreed)})


def agreed_info(folder: RunFolder) -> DatasetInfo | None:
    """Return what the hospitals agreed on when the run began; None if they have not been asked yet."""
    agreed = read_options(folder).get("agreed")
    if agreed is None:
        return None
    return DatasetInfo(tuple(agreed["class-names"]), agreed["num-channels"], agreed["image-size"])


def held_classes(folder: RunFolder) -> list[bool]:
    """Tell of each class whether any node of the run ever held a training image."""
    counts = [node["train"] for node in read_options(folder)["nodes"].values()]
    return [any(column) for column in zip(*counts, strict=True)]


def different_options(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Name the options that differ and that change what a run computes."""
    names = sorted(found.keys() | wanted.keys())
    return [
        name
        for name in names
        if name not in _FREE_TO_CHANGE and not name.startswith(_FREE_SECTIONS) and found.get(name) != wanted.get(name)
    ]


def check_resumable(folder: RunFolder, config: RunConfig) -> None:
    """Raise RunFolderError where a folder holds no run, a finished one, or one of other options."""
    found = read_options(folder)["options"]
    wanted: dict[str, Any] = json.loads(json.dumps(config.to_flat()))
    different = different_options(found, wanted)
    if different:
        pairs = ", ".join(f"{name} (was {found.get(name)!r}, is {wanted.get(name)!r})" for name in different)
        raise RunFolderError(
            f"{folder.path} belongs to a run of other options: {pairs}. Resume with the same ones, or start a new run."
        )
    if read_status(folder).get("state") in ("completed", "degraded"):
        raise RunFolderError(f"The run in {folder.path} is finished: there is nothing to resume.")


def _newest_unfinished(runs: Path, config: RunConfig) -> RunFolder | None:
    """Find and lock the newest folder that `check_resumable` has nothing against and no other server writes to."""
    candidates = sorted(runs.glob("*/run.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for options_file in candidates:
        folder = RunFolder(options_file.parent)
        try:
            _take(folder, config)
        except RunFolderError:
            continue
        return folder
    return None


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # the app itself, where Flower runs it from its bundle
            continue
    return found
