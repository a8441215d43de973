"""Decoded images on a node's disk, so that not every message reads the hospital's folder again.

A cache file holds pixels, labels and numbers of patients, but no name of a file or a patient. Its name is a hash of all
that decides its content: names, sizes and times of the folder's files, options, and the versions of the decoders.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fl_app.data.folder import OwnImages, info, read_parts, stated_info
from fl_app.data.images import DatasetInfo, ImageSet
from fl_app.data.listing import Part
from fl_app.errors import RunFolderError, is_fault
from fl_app.files import remove_partial, replacing
from fl_app.options.images import DataOptions

T = TypeVar("T")

log = logging.getLogger(__name__)

FOLDER = "images@cache"  # beside the folders of runs, whose names have no @
_FORMAT = 3  # to be raised whenever the same files give other pixels
_DECODERS = (
    "pillow", "pydicom", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle", "numpy", "torch",
)  # fmt: skip
_DOUBT_SECONDS = 3600.0  # after which unreadable files are tried again: a disk may have been away
_SUFFIX = ".safetensors"


def read_cached(
    state: Path,
    most_bytes: int,
    directory: Path,
    expected: DatasetInfo,
    wanted: Sequence[Part],
    max_unreadable_share: float,
    test_share: float,
    key: bytes,
) -> OwnImages:
    """Return the result of `read_parts`, from the cache if the folder is unchanged; else read it and keep the result.

    A cache that cannot be read or written costs a warning, never the images.

    Args:
        state: the node's folder, which holds the cache; only the node's user may read it.
        most_bytes: of the whole cache; the results that were not used for longest are deleted first. 0: no cache.
        directory: see `read_parts`, also for the following arguments.
        expected: agreed classes, channels and size.
        wanted: the parts to read.
        max_unreadable_share: of the files.
        test_share: of the training images.
        key: the hospital's secret; the cache holds what was hashed with it, and never the key.

    Raises:
        DataError: as `read_parts` does.
    """
    options = [list(expected.class_names), expected.num_channels, expected.image_size, list(wanted)]
    settings = [*options, max_unreadable_share, test_share, hashlib.sha256(key).hexdigest()]
    name = _key(directory, settings) if most_bytes else None
    folder = state / FOLDER
    if name is not None:
        path = folder / f"{name}{_SUFFIX}"
        found = _checked(path, lambda: _load_images(path, expected))
        if found is not None:
            return found
    read = read_parts(directory, expected, wanted, max_unreadable_share, test_share, key)
    if name is not None and name == _key(directory, settings):  # nobody changed the folder meanwhile
        _save(folder, name, read, most_bytes)
    return read


def info_cached(state: Path, most_bytes: int, options: DataOptions) -> DatasetInfo:
    """Return the result of `folder.info`, from the cache if the folder is unchanged.

    Args:
        state: see `read_cached`.
        most_bytes: see `read_cached`.
        options: of the run, with the hospital's folder as `directory`.

    Raises:
        OptionError: as `folder.info` does.
        DataError: as `folder.info` does.
    """
    stated = stated_info(options)
    if stated is not None or not most_bytes:
        return stated or info(options)
    directory = Path(options.directory).expanduser()
    settings = ["info", list(options.class_names), options.num_channels, options.image_size]
    key = _key(directory, settings)
    path = state / FOLDER / f"{key}.json"

    def load() -> DatasetInfo:
        checksum, _, text = path.read_text(encoding="utf-8").partition("\n")
        if checksum != str(_checksum(text, {})):
            raise ValueError("a checksum does not fit")
        told = json.loads(text)
        return DatasetInfo(tuple(told["class-names"]), int(told["num-channels"]), options.image_size)

    known = _checked(path, load) if key is not None else None
    if known is not None:
        return known
    found = info(options)
    if key is not None and key == _key(directory, settings):
        text = json.dumps({"class-names": found.class_names, "num-channels": found.num_channels})
        content = f"{_checksum(text, {})}\n{text}"
        _write(path, lambda temporary: temporary.write_text(content, encoding="utf-8"), most_bytes)
    return found


def clear(state: Path) -> int:
    """Delete the cache in a node's folder; return the number of bytes that this frees.

    Raises:
        OSError: it cannot be deleted.
    """
    folder = state / FOLDER
    if not folder.is_dir():
        return 0
    freed = sum(path.stat().st_size for path in folder.iterdir())
    shutil.rmtree(folder)
    return freed


def _key(directory: Path, settings: Sequence[object]) -> str | None:
    """Return a hash of all that decides the result; None if the folder cannot be listed."""
    versions = []
    for name in _DECODERS:
        with contextlib.suppress(PackageNotFoundError):
            versions.append(f"{name} {version(name)}")
    digest = hashlib.sha256(json.dumps([_FORMAT, versions, list(settings)]).encode())
    try:
        for line in _state_of_files(directory):
            digest.update(line)
    except OSError:
        return None
    return digest.hexdigest()


def _state_of_files(directory: Path) -> Iterator[bytes]:
    """Yield name, kind, size, times and inode of each file and folder, in a fixed order; no file is opened."""
    waiting = [str(directory)]
    while waiting:
        folder = waiting.pop()
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder:
                waiting.append(entry.path)
            of_link = os.readlink(entry.path) if entry.is_symlink() else ""
            try:
                state = os.stat(entry.path)
                # ctime cannot be set to an earlier time; many programs that copy do that to mtime
                numbers = (state.st_mode, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
            except FileNotFoundError:  # a link to nowhere
                numbers = (0, 0, 0, 0, 0)
            name = os.path.relpath(entry.path, directory)
            told = (name, of_link, (0, 0) if is_folder else numbers)
            yield repr(told).encode("utf-8", "surrogateescape")


def _checked(path: Path, load: Callable[[], T | None]) -> T | None:
    """Load a result; None if there is none. A damaged one is deleted."""
    try:
        return load()
    except FileNotFoundError:
        return None
    except BaseException as error:
        if not is_fault(error):
            raise
        log.warning("The cache of images is damaged (%s): the folder is read again", error)
        with contextlib.suppress(OSError):
            path.unlink()
        return None


def _load_images(path: Path, expected: DatasetInfo) -> OwnImages | None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if metadata["checksum"] != str(_checksum(metadata["told"], arrays)):
        raise ValueError("a checksum does not fit")
    told = json.loads(metadata["told"])
    if told["num_unreadable"] and time.time() - told["time"] > _DOUBT_SECONDS:
        return None
    parts = {
        part: ImageSet(
            arrays[f"{part}/images"],
            arrays[f"{part}/labels"],
            expected.class_names,
            arrays.get(f"{part}/patients"),
            arrays.get(f"{part}/positions"),
        )
        for part in told["parts"]
    }
    os.utime(path)  # used now
    return OwnImages(parts, told["num_unreadable"], told["is_test_drawn"])


def _save(folder: Path, key: str, read: OwnImages, most_bytes: int) -> None:
    arrays: dict[str, Tensor] = {}
    for part, images in read.parts.items():
        arrays |= {f"{part}/images": images.images, f"{part}/labels": images.labels}
        if images.patients is not None:
            arrays[f"{part}/patients"] = images.patients
        if images.positions is not None:
            arrays[f"{part}/positions"] = images.positions
    size = sum(array.numel() * array.element_size() for array in arrays.values())
    if size > most_bytes:
        log.info(
            "The images take %d MB, more than 'max-cache-megabytes' allows: every message reads the folder",
            size // 10**6,
        )
        return
    arrays = {name: array.contiguous() for name, array in arrays.items()}
    told = {
        "parts": list(read.parts),
        "num_unreadable": read.num_unreadable,
        "is_test_drawn": read.is_test_drawn,
        "time": time.time(),
    }
    text = json.dumps(told)
    metadata = {"told": text, "checksum": str(_checksum(text, arrays))}
    _write(folder / f"{key}{_SUFFIX}", lambda temporary: save_file(arrays, temporary, metadata), most_bytes - size)


def _write(path: Path, write: Callable[[Path], object], most_bytes: int) -> None:
    """Write a file whole or not at all, for the node's user alone.

    First delete the results that were not used for longest, until the rest takes at most `most_bytes`.
    """
    try:
        path.parent.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.parent.mkdir(exist_ok=True, mode=0o700)
        path.parent.chmod(0o700)
        total = 0
        for kept in sorted(path.parent.glob("[!.]*"), key=lambda kept: kept.stat().st_mtime_ns, reverse=True):
            total += kept.stat().st_size
            if total > most_bytes:
                kept.unlink()
        remove_partial(path.parent)
        with replacing(path, 0o600) as temporary:
            write(temporary)
    except (OSError, RunFolderError) as error:
        log.warning("The images cannot be kept in %s (%s): every message reads the folder", path.parent, error)


def _checksum(text: str, arrays: dict[str, Tensor]) -> int:
    """Return a checksum of all that a file holds: its text, and names, shapes, types and values of its arrays."""
    found = zlib.crc32(text.encode())
    for name in sorted(arrays):
        array = arrays[name].contiguous().numpy()
        found = zlib.crc32(repr((name, array.shape, array.dtype.str)).encode(), found)
        found = zlib.crc32(array.reshape(-1).view(np.uint8).data, found)
    return found
