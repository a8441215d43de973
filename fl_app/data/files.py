"""The files of public data sets: in a given folder, which is only read, or in a cache filled by download."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from fl_app.errors import DataError
from fl_app.options.images import DataOptions

DIRECTORY_VARIABLE = "FL_APP_DATA"


@dataclass(frozen=True)
class KnownFile:
    """A published file.

    Attributes:
        places: its possible paths inside the data folder; a download uses the first one.
        md5: checksum of the whole file, hexadecimal.
    """

    places: tuple[str, ...]
    md5: str


def given_directory(options: DataOptions) -> Path | None:
    """Return the folder named by the option `data.directory`, else by the environment; None if neither names one."""
    name = options.directory or os.environ.get(DIRECTORY_VARIABLE, "")
    return Path(name).expanduser() if name else None


def cache_directory() -> Path:
    """Return the user's cache folder, for downloads if no folder is given; it may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "fl-app"


def read_known_files(
    options: DataOptions, files: Sequence[KnownFile], download: Callable[[Path], object]
) -> list[bytes]:
    """Read files and compare their checksums; if no folder is given, download missing ones to the cache.

    Args:
        options: name the folder.
        files: to read.
        download: puts all files into an empty folder, at the first of their places.

    Raises:
        DataError: a file is missing, cannot be read or downloaded, or has another checksum.
    """
    folder = given_directory(options)
    if folder is None:
        folder = cache_directory()
        if any(_find(folder, file) is None for file in files):
            _download_into(folder, files, download)
    return [_read(folder, file) for file in files]


def _find(folder: Path, file: KnownFile) -> Path | None:
    return next((folder / place for place in file.places if (folder / place).is_file()), None)


def _read(folder: Path, file: KnownFile) -> bytes:
    path = _find(folder, file)
    if path is None:
        state = "holds no file" if folder.is_dir() else "does not exist; expected there: the file"
        raise DataError(
            f"The data folder {folder} {state} {' or '.join(file.places)}. Put the file there, set the option "
            f"'data.directory' or ${DIRECTORY_VARIABLE} to another folder, or empty both to download.",
            public="a file of the data set is missing",
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", public="a file cannot be read") from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != file.md5:
        raise DataError(
            f"{path} is damaged or not the published file: its MD5 is {found}, expected {file.md5} "
            f"({len(content)} bytes read). Replace it with a fresh copy, or delete it where it was downloaded.",
            public="a file of the data set is damaged",
        )
    return content


def _download_into(folder: Path, files: Sequence[KnownFile], download: Callable[[Path], object]) -> None:
    """Download into a temporary folder, then move each whole file: nodes start together and share the cache."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="download-") as temporary:
            download(Path(temporary))
            for file in files:
                (folder / file.places[0]).parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(temporary) / file.places[0], folder / file.places[0])
    except (OSError, RuntimeError, HTTPException) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"Found no data folder, and the download failed ({reason}). Expected: "
            f"{', '.join(file.places[0] for file in files)}. Get the files where there is a network, put them into "
            f"a folder and name it in the option 'data.directory' or in ${DIRECTORY_VARIABLE}.",
            public="the data set is not there and could not be downloaded",
        ) from error
