"""Files and folders: written whole or not at all, closed to other users, checked by their SHA-256; and documents."""

import functools
import hashlib
import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError

from fl_app.errors import RunFolderError

log = logging.getLogger(__name__)

MANIFEST = "SHA256SUMS"  # SHA-256 of every file of a folder, as `sha256sum -c` reads it

# Documents are frozen dataclasses: with underscores in Python, with hyphens in files.
KEBAB = ConfigDict(alias_generator=lambda name: name.replace("_", "-"), populate_by_name=True, extra="ignore")

T = TypeVar("T")

_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write JSON whole or not at all; a number that is not finite raises ValueError."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


@contextmanager
def replacing(path: Path, mode: int | None = None) -> Iterator[Path]:
    """Give a temporary path beside `path`; if the block raises nothing, the file written there replaces `path`.

    There must be one writer at a time: the temporary path is the same for all.

    Args:
        path: of the file.
        mode: its permissions; None: those of the file that the block writes.

    Raises:
        RunFolderError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if mode is not None:
            temporary.chmod(mode)
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)  # a partial file would keep a full disk full
        if isinstance(error, OSError | SafetensorError):
            raise RunFolderError(
                f"{path} could not be written: {getattr(error, 'strerror', None) or error}."
            ) from error
        raise


def remove_partial(folder: Path) -> None:
    """Delete the files that killed writers have left half written in a folder."""
    for path in folder.glob(".*partial*"):
        path.unlink(missing_ok=True)


def replace_folder(target: Path, write: Callable[[Path], None], *, is_synced: bool = True) -> None:
    """Let `write` fill a temporary folder, which then replaces `target`.

    Args:
        target: the folder.
        write: takes the temporary folder.
        is_synced: whether each file is on the disk before the folder gets its name, which many small files make slow.

    Raises:
        RunFolderError: it cannot be written.
    """
    temporary = target.with_name(f".{target.name}.partial")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        write(temporary)
        for file in temporary.rglob("*") if is_synced else ():
            if file.is_file():
                _sync(file)
        aside = _recover(target)  # a folder cannot replace another: the old one is renamed first
        shutil.rmtree(aside, ignore_errors=True)
        if target.exists():
            target.rename(aside)
        temporary.rename(target)
        _sync(target.parent)
        shutil.rmtree(aside, ignore_errors=True)
    except Exception as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError | SafetensorError):
            raise RunFolderError(
                f"{target} could not be written: {getattr(error, 'strerror', None) or error}."
            ) from error
        raise


def recover_folder(target: Path) -> None:
    """Put a folder back if its replacement was killed halfway.

    Raises:
        RunFolderError: it cannot be put back.
    """
    try:
        _recover(target)
    except OSError as error:
        raise RunFolderError(f"{target} could not be put back: {error}.") from error


def write_new_files(folder: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
    """Write all files or none, each with its permissions from the start, and never replace a file.

    Args:
        folder: the folder for the files; created if it is missing.
        files: content and permissions, by name.

    Raises:
        RunFolderError: a file exists already, or cannot be written.
    """
    for name in files:
        if (folder / name).exists():
            raise RunFolderError(f"{folder / name} exists already and is never overwritten. Move it away first.")
    made: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (content, mode) in files.items():
            temporary = folder / f".{name}.partial"
            temporary.unlink(missing_ok=True)
            made.append(temporary)
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for name in files:
            os.link(folder / f".{name}.partial", folder / name)  # a rename would replace a file that was made meanwhile
            made.append(folder / name)
    except OSError as error:
        for path in made:
            path.unlink(missing_ok=True)
        raise RunFolderError(
            f"Nothing was written to {folder}: {error}. Fix that, or choose another folder with --out."
        ) from error
    for name in files:
        (folder / f".{name}.partial").unlink()


def _recover(target: Path) -> Path:
    """Put a folder back that was renamed but not replaced; return the name that it is renamed to."""
    aside = target.with_name(f".{target.name}.old")
    if aside.exists() and not target.exists():
        aside.rename(target)
    return aside


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def to_json(document: object, kind: Hashable = None) -> Any:
    """Return a document as JSON values; `kind`: its type, if that is not its class, such as `list[Row]`."""
    return _adapter(kind or cast(Hashable, type(document))).dump_python(document, mode="json", by_alias=True)


def from_json(kind: type[T], text: bytes) -> T | None:
    """Return a document from its JSON; None if it is damaged. Missing fields get defaults, unknown ones are ignored."""
    try:
        found: T = _adapter(cast(Hashable, kind)).validate_json(text)
    except ValidationError:
        return None
    return found


@functools.cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast(type[Any], kind))


def make_private(folder: Path) -> None:
    """Make a folder that other users of the machine cannot open (mode 0700), or close an existing one to them.

    A folder of another user, or of everybody as /tmp, stays open with a warning.

    Raises:
        OSError: the folder cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if not stat.S_IMODE(found.st_mode) & 0o077:
        return
    if found.st_uid == os.geteuid() and not found.st_mode & stat.S_ISVTX:
        try:
            folder.chmod(0o700)
            return
        except OSError:  # some file systems keep no modes
            pass
    log.warning("Other users of this machine may be able to open %s: choose a folder of your own", folder)


def write_manifest(folder: Path) -> None:
    """Write the SHA-256 of all files below a folder.

    Raises:
        OSError: a file cannot be read, or the manifest cannot be written.
    """
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = (f"{_sum(folder / name)}  {name}\n" for name in files if name != MANIFEST)
    (folder / MANIFEST).write_text("".join(lines), encoding="utf-8", newline="\n")


def check_manifest(folder: Path) -> frozenset[str]:
    """Compare the files below a folder with its manifest, and return their names; other files are ignored.

    Raises:
        RunFolderError: a file is missing or was changed; the text names the first one.
    """
    try:
        text = (folder / MANIFEST).read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        raise RunFolderError(f"{folder} is damaged: its file {MANIFEST} is missing.") from None
    except OSError as error:
        raise RunFolderError(f"{folder} cannot be read: {error.strerror}.") from error
    lines = [_LINE.fullmatch(line) for line in text.split("\n")[:-1]]
    if not lines or not text.endswith("\n"):
        lines = [None]
    names = set()
    for line in lines:
        if line is None:
            raise RunFolderError(f"{folder} is damaged: {MANIFEST} is not as it was written.")
        expected, name = line.groups()
        try:
            found = _sum(folder / name)
        except (OSError, ValueError):  # a damaged name may hold anything
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
    if (folder / MANIFEST).is_file():
        try:
            check_manifest(folder)
        except RunFolderError as error:
            raise RunFolderError(f"{error} Copy it again from its source.") from None


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


CARD = "README.md"
LICENCE_NOT_STATED = (
    "not stated. The hospitals that trained this model decide who may use it, and for what: ask them before you use it "
    "or pass it on."
)


def write_card(folder: Path, what: str, use: str, licence: str) -> None:
    """Write the README.md of an exported model; at the end of a run `runs.cards` replaces it by the whole card.

    Args:
        folder: of the model, existing.
        what: the model, such as `Classifier`.
        use: how to open it, a sentence.
        licence: as the run's option `export.licence` states it; empty: not stated.

    Raises:
        OSError: the file cannot be written.
    """
    text = f"# {what} trained with fl-app\n\nLicence: {licence or LICENCE_NOT_STATED}\n\n{use}\n"
    (folder / CARD).write_text(text, encoding="utf-8", newline="\n")
