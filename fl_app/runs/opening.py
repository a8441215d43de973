"""Opening a run: a new folder, or one that is resumed."""

import logging
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fl_app.data.images import DatasetInfo
from fl_app.errors import RunFolderError
from fl_app.files import make_private
from fl_app.options.run import ADDED, RunConfig
from fl_app.options.sections import OptionValue
from fl_app.runs.documents import ENDED_WELL
from fl_app.runs.folder import RunFolder, read_status
from fl_app.runs.overview import runs_folder
from fl_app.runs.run_json import Agreed, RunDocument, new_run_name, note_run_id, read_document, write_document

log = logging.getLogger(__name__)

_FREE_TO_CHANGE = ("output-dir", "run-name", "resume", "recipe", "gallery-every", "late-joining", "tracking")
_FREE_SECTION = "federation."
_PACKAGES = ("fl-app", "flwr", "torch", "diffusers", "numpy", "safetensors")


def open_run(config: RunConfig, run_id: int) -> RunFolder:
    """Make a new run's folder with its run.json, or find the run to resume; the returned folder is locked.

    Args:
        config: every option.
        run_id: Flower's, added to run.json.

    Raises:
        RunFolderError: it exists already, cannot be written, or belongs to a run of other options.
    """
    runs = runs_folder(config.output_dir).resolve()
    if config.resume == "auto":
        for folder in find_resumable(runs, config):
            try:
                _take(folder, config)
            except RunFolderError:  # in use
                continue
            log.info("Going on with %s", folder.path)
            note_run_id(folder.path, run_id)
            return folder
        log.info("Nothing to resume in %s: a new run starts", runs)
    elif config.resume:
        folder = RunFolder(Path(config.resume).expanduser().resolve())
        _take(folder, config)
        note_run_id(folder.path, run_id)
        return folder
    folder = RunFolder(runs / (config.run_name or new_run_name(config.recipe, f"{run_id % 0x10000:04x}")))
    _make(folder)
    folder.lock()  # first of all: of two starts under one name the later one writes nothing
    if folder.options_file.exists():
        folder.unlock()
        raise RunFolderError(
            f"{folder.path} holds a run already. Choose another 'run-name', or resume this run with resume = "
            f'"{folder.path}".'
        )
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # the app itself, if Flower runs it from its bundle
            continue
    document = RunDocument(
        run_name=folder.path.name,
        options=config.to_flat(),
        flower_runs=(str(run_id),),
        started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        seed=config.seed,
        versions=versions,
        answers={},
    )
    write_document(folder.path, document)
    return folder


def note_agreement(folder: RunFolder, info: DatasetInfo) -> None:
    """Write into run.json what the hospitals agreed on."""
    agreed = Agreed(info.class_names, info.num_channels, info.image_size)
    write_document(folder.path, replace(read_document(folder.path), agreed=agreed))


def agreed_info(folder: RunFolder) -> DatasetInfo | None:
    """Return what the hospitals agreed on when the run began; None if they have not been asked yet."""
    agreed = read_document(folder.path).agreed
    return DatasetInfo(agreed.class_names, agreed.num_channels, agreed.image_size) if agreed else None


def find_resumable(runs: Path, config: RunConfig) -> Iterator[RunFolder]:
    """Yield the unfinished runs of the same options below a folder, the newest first; some may be going on."""
    candidates = sorted(runs.glob("*/run.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for folder in (RunFolder(options_file.parent) for options_file in candidates):
        with suppress(RunFolderError):  # of other options, or finished
            check_resumable(folder, config)
            yield folder


def check_resumable(folder: RunFolder, config: RunConfig) -> None:
    """Raise RunFolderError if a folder holds no run, a finished run, or a run of other options."""
    wanted = config.to_flat()
    added = ADDED | {name: value for name, value in wanted.items() if name.startswith("plugin-task.")}
    found = {**added, **read_document(folder.path).options}
    different = different_options(found, wanted)
    if different:
        pairs = ", ".join(f"{name} (was {found.get(name)!r}, is {wanted.get(name)!r})" for name in different)
        raise RunFolderError(
            f"{folder.path} belongs to a run of other options: {pairs}. Resume with the same ones, or start a new run."
        )
    if read_status(folder).state in ENDED_WELL:
        raise RunFolderError(f"The run in {folder.path} is finished: there is nothing to resume.")


def different_options(found: Mapping[str, OptionValue], wanted: Mapping[str, OptionValue]) -> list[str]:
    """Name the options that differ, except those that do not change what a run computes."""
    names = sorted(found.keys() | wanted.keys())
    return [
        name
        for name in names
        if name not in _FREE_TO_CHANGE and not name.startswith(_FREE_SECTION) and found.get(name) != wanted.get(name)
    ]


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


def _make(folder: RunFolder) -> None:
    """Make the run's folder if it is missing, and close it to other users; raises RunFolderError."""
    try:
        make_private(folder.path)
    except OSError as error:
        raise RunFolderError(f"{folder.path} cannot be written: {error.strerror}.") from error
