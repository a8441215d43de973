"""SHA-256 of every file of a folder, in the file SHA256SUMS, as `sha256sum -c` reads it."""

import hashlib
import re
from pathlib import Path

from fl_app.errors import RunFolderError

NAME = "SHA256SUMS"

_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def write_manifest(folder: Path) -> None:
    """Write the sums of all files below a folder.

    Raises:
        OSError: a file cannot be read, or the manifest cannot be written.
    """
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = (f"{_sum(folder / name)}  {name}\n" for name in files if name != NAME)
    (folder / NAME).write_text("".join(lines), encoding="utf-8", newline="\n")


def check_manifest(folder: Path) -> frozenset[str]:
    """Compare the files below a folder with its manifest, and return their names; further files do not count.

    Raises:
        RunFolderError: a file is missing or is not as it was written; the text names the first one.
    """
    try:
        text = (folder / NAME).read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        raise RunFolderError(f"{folder} is damaged: its file {NAME} is missing.") from None
    except OSError as error:
        raise RunFolderError(f"{folder} cannot be read: {error.strerror}.") from error
    lines = [_LINE.fullmatch(line) for line in text.split("\n")[:-1]]
    if not lines or not text.endswith("\n"):
        lines = [None]
    names = set()
    for line in lines:
        if line is None:
            raise RunFolderError(f"{folder} is damaged: {NAME} is not as it was written.")
        expected, name = line.groups()
        try:
            found = _sum(folder / name)
        except (OSError, ValueError):  # a name that was damaged may hold anything
            raise RunFolderError(f"{folder} is damaged: its file {name!r} is missing or cannot be read.") from None
        if found != expected:
            raise RunFolderError(f"{folder} is damaged: {name} is not as it was written.")
        names.add(name)
    return frozenset(names)


def check_export(folder: Path) -> None:
    """Check an exported model; one of an earlier version has no manifest and passes.

    Raises:
        RunFolderError: as `check_manifest`.
    """
    if (folder / NAME).is_file():
        try:
            check_manifest(folder)
        except RunFolderError as error:
            raise RunFolderError(f"{error} Copy it anew from where it was made.") from None


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
