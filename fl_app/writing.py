"""Files and folders written whole or not at all."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from fl_app.errors import RunFolderError


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write JSON whole or not at all; a number that is not finite raises ValueError."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what was written there takes its place when the block ends well.

    Raises:
        RunFolderError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunFolderError(f"{path} could not be written: {error}.") from error


def replace_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary folder, which then takes the place of `target`."""
    temporary = target.with_name(f".{target.name}.partial")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        write(temporary)
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        _replace_folder(temporary, target)
    except Exception as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError | SafetensorError):
            raise RunFolderError(f"{target} could not be written: {error}.") from error
        raise


def recover_folder(target: Path) -> None:
    """Put a folder back whose replacement was killed halfway; none is missing after this that was there before.

    Raises:
        RunFolderError: it cannot be put back.
    """
    try:
        _recover(target)
    except OSError as error:
        raise RunFolderError(f"{target} could not be put back: {error}.") from error


def _replace_folder(temporary: Path, target: Path) -> None:
    """Rename a finished folder; an old one of that name steps aside first, since folders cannot be replaced."""
    aside = _recover(target)
    shutil.rmtree(aside, ignore_errors=True)
    if target.exists():
        target.rename(aside)
    temporary.rename(target)
    _sync(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _recover(target: Path) -> Path:
    """Put a folder back that was killed between stepping aside and being replaced; return where it steps to."""
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
