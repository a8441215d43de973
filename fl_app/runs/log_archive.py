"""The records of a run for support, scrubbed: no images, labels, names of files, paths, keys or weights."""

import getpass
import json
import platform
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from fl_app.errors import RunFolderError
from fl_app.options.sections import split_words
from fl_app.runs.run_json import read_document
from fl_app.runs.scrubbing import scrub, scrub_json
from fl_app.runs.scrubbing_values import known_words

_PRIVATE_OPTIONS = ("output-dir", "resume", "data.directory")
_LONGEST_LOG = 2 * 1024 * 1024  # bytes


@dataclass(frozen=True)
class Words:
    """Words that are taken out of a run's records, and quoted words that stay.

    Attributes:
        removed: the user, this machine, and the class names that only the hospitals have stated.
        kept: names of options and of our own parts, and the run's sites.
    """

    removed: tuple[str, ...]
    kept: frozenset[str]


def words_of(folder: Path, names: Sequence[str]) -> Words:
    """Return the words of a run: further ones to be taken out, and what its run.json, maybe broken, says."""
    try:
        found = read_document(folder)
    except RunFolderError:
        return Words(tuple(names), known_words())
    stated = split_words(found.options.get("data.class-names", ""))
    labels = found.agreed.class_names if found.agreed else ()
    own = [name for name in labels if isinstance(stated, tuple) and name not in stated]
    told = [name for name in own if len(name) > 2 and not name.isdecimal()]  # others stand for many things
    return Words((*names, *told), known_words() | found.nodes.keys())


def collect(folder: Path, words: Words) -> dict[str, str]:
    """Return the scrubbed files by name: those of a fixed list that the run folder holds, and the versions.

    Args:
        folder: the run folder, maybe broken.
        words: from `words_of`.
    """
    members = {"versions.json": _to_text(_versions())}
    for name in ("run.json", "status.json"):
        if (folder / name).is_file():
            members[name] = _scrub_document(read_log(folder / name), words)
    if (folder / "metrics.jsonl").is_file():
        lines = read_log(folder / "metrics.jsonl").splitlines()
        members["metrics.jsonl"] = "".join(f"{_scrub_line(line, words)}\n" for line in lines if line.strip())
    for name in ("run.log", "flower.log"):
        if (folder / name).is_file():
            members[name] = scrub(read_log(folder / name), words.removed, words.kept)
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


def _scrub_document(text: str, words: Words) -> str:
    """Scrub a JSON document; a damaged one as plain text."""
    try:
        document = json.loads(text)
    except ValueError:
        return scrub(text, words.removed, words.kept)
    if isinstance(document, dict) and isinstance(document.get("options"), dict):
        hidden = {name: "[path]" for name in _PRIVATE_OPTIONS if document["options"].get(name)}
        document = document | {"options": document["options"] | hidden}
    return _to_text(scrub_json(document, words.removed, words.kept))


def _scrub_line(line: str, words: Words) -> str:
    try:
        return json.dumps(scrub_json(json.loads(line), words.removed, words.kept), ensure_ascii=False)
    except ValueError:
        return scrub(line, words.removed, words.kept)


def _versions() -> dict[str, object]:
    """Return what runs here: this machine's system and Python, and every installed package."""
    packages = {one.metadata["Name"]: one.version for one in distributions() if one.metadata["Name"]}
    system = {"system": platform.system(), "release": platform.release(), "machine": platform.machine()}
    return system | {"python": platform.python_version(), "packages": dict(sorted(packages.items()))}


def _to_text(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
