"""Decides whether a node may execute a bundle: only the bundles whose SHA-256 the hospital has approved."""

import hashlib
import io
import logging
import shutil
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from fl_app.flower import ReceivedBundle, folder_of

log = logging.getLogger(__name__)

_SHOWN = 12  # hexadecimal digits of a hash in the answer to the run, whose length is limited


def fault_of(bundle: ReceivedBundle, approved: Sequence[str]) -> str | None:
    """Return why a bundle must not be executed, as text for the run; None if it is approved.

    Args:
        bundle: as it came; its hash is computed here, whatever the SuperLink states.
        approved: SHA-256 of bundles, 64 hexadecimal digits in lower case.
    """
    found = hashlib.sha256(bundle.content).hexdigest()
    if found not in approved:
        log.error("A run was refused: its code has SHA-256 %s, which 'approved-code' does not name.", found)
        known = ", ".join(f"{one[:_SHOWN]}…" for one in approved[:2]) + (", …" if len(approved) > 2 else "")
        return (
            f"this node executes approved code only: found SHA-256 {found[:_SHOWN]}…, approved {known}. "
            "Submit approved code (see `fl-app code-hash`), or ask the hospital to approve this one"
        )
    with zipfile.ZipFile(io.BytesIO(bundle.content)) as archive:  # approved, so it is whole
        files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    document = tomllib.loads(files["pyproject.toml"].decode("utf-8"))
    project, publisher = document["project"], document["tool"]["flwr"]["app"]["publisher"]
    # Flower starts what lies in a folder of that name: another name would lead to other code.
    if set(bundle.claimed_hashes) != {found} or bundle.claimed_name != (
        f"{publisher}/{project['name']}",
        str(project["version"]),
    ):
        log.error("A run was refused: the SuperLink sent approved code under the name or the SHA-256 of other code.")
        return "the SuperLink sent approved code under another name or SHA-256: this node does not execute it"
    folder = folder_of(bundle)
    try:
        _remove_other_code(folder, files)
    except OSError as error:
        log.error("%s holds other code than the approved bundle, and cannot be removed (%s). Remove it.", folder, error)
        return "other code lies where this node unpacks approved code, and cannot be removed: its log names the folder"
    return None


def _remove_other_code(folder: Path, files: Mapping[str, bytes]) -> None:
    """Remove a folder that Flower would execute in place of a bundle, unless it holds the bundle's files and no other.

    Flower unpacks a bundle only if its folder is not there. Code that ran before the hospital approved any, a bundle
    whose hash begins with the same 8 digits, or a process that died while it unpacked may have left something else.
    Compiled files are removed always: Python makes them again.

    Args:
        folder: where Flower unpacks the bundle.
        files: of the bundle, by name; those in `.info` are not unpacked.

    Raises:
        OSError: it cannot be read or removed.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    expected = {name: content for name, content in files.items() if not name.startswith(".info/")}
    if not folder.is_symlink() and folder.is_dir():
        for compiled in sorted(folder.rglob("__pycache__")):
            compiled.unlink() if compiled.is_symlink() else shutil.rmtree(compiled)
        found = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
        is_plain = all(path.is_file() and not path.is_symlink() for path in found)
        if is_plain and {path.relative_to(folder).as_posix(): path.read_bytes() for path in found} == expected:
            return
    log.warning("%s held other code than the approved bundle; it is removed and unpacked anew", folder)
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink()
    else:
        shutil.rmtree(folder)
