"""The records of a run for support, scrubbed: no images, names of files, paths, keys or weights."""

import getpass
import json
import platform
import socket
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path

from fl_app.runs.scrubbing import scrub, scrub_json

_PRIVATE_OPTIONS = ("output-dir", "resume", "data.directory")
_LONGEST_LOG = 2 * 1024 * 1024  # bytes


def collect(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the scrubbed files by name: those of a fixed list that the run folder holds, and the versions.

    Args:
        folder: the run folder, maybe broken.
        names: words to be taken out.
    """
    members = {"versions.json": _to_text(_versions())}
    for name in ("run.json", "status.json"):
        if (folder / name).is_file():
            members[name] = _scrub_document(read_log(folder / name), names)
    if (folder / "metrics.jsonl").is_file():
        lines = read_log(folder / "metrics.jsonl").splitlines()
        members["metrics.jsonl"] = "".join(f"{_scrub_line(line, names)}\n" for line in lines if line.strip())
    for name in ("run.log", "flower.log"):
        if (folder / name).is_file():
            members[name] = scrub(read_log(folder / name), names)
    return members


def private_names() -> list[str]:
    """Return the names of the user and of this machine, unless they are everyday words."""
    found = [socket.gethostname(), socket.gethostname().partition(".")[0], Path.home().name]
    with suppress(OSError, KeyError):  # a container's user may have no name
        found.append(getpass.getuser())
    return [name for name in dict.fromkeys(found) if len(name) > 2 and name not in ("root", "localhost", "user")]


def read_log(path: Path) -> str:
    """Return the end of a log, which says why a run ended."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _LONGEST_LOG, 0))
        return file.read().decode("utf-8", errors="replace")


def _scrub_document(text: str, names: Sequence[str]) -> str:
    """Scrub a JSON document; a damaged one as plain text."""
    try:
        document = json.loads(text)
    except ValueError:
        return scrub(text, names)
    if isinstance(document, dict) and isinstance(document.get("options"), dict):
        hidden = {name: "[path]" for name in _PRIVATE_OPTIONS if document["options"].get(name)}
        document = document | {"options": document["options"] | hidden}
    return _to_text(scrub_json(document, names))


def _scrub_line(line: str, names: Sequence[str]) -> str:
    try:
        return json.dumps(scrub_json(json.loads(line), names), ensure_ascii=False)
    except ValueError:
        return scrub(line, names)


def _versions() -> dict[str, object]:
    """Return what runs here: this machine's system and Python, and every installed package."""
    packages = {one.metadata["Name"]: one.version for one in distributions() if one.metadata["Name"]}
    system = {"system": platform.system(), "release": platform.release(), "machine": platform.machine()}
    return system | {"python": platform.python_version(), "packages": dict(sorted(packages.items()))}


def _to_text(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
