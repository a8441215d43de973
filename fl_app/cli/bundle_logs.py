"""The command `fl-app bundle-logs`: what support needs to see of a run, without anything of a patient."""

import getpass
import json
import platform
import socket
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path
from typing import Annotated

import typer

from fl_app.cli.scrubbing import scrub, scrub_json
from fl_app.cli.words import Quiet, Runs, Voice
from fl_app.errors import OptionError
from fl_app.runs.overview import find_run, runs_folder

_PRIVATE_OPTIONS = ("output-dir", "resume", "data.directory")
_LONGEST_LOG = 2 * 1024 * 1024  # the end says why a run ended


def bundle_logs(
    run: Annotated[Path, typer.Argument(help="A run folder, or its name.")],
    out: Annotated[Path, typer.Option(help="The zip file to write; it must not exist yet.")],
    runs: Runs = None,
    logs: Annotated[
        list[Path] | None,
        typer.Option("--log", help="Another log to pack, scrubbed as well: of a node, of `flwr log`; may be repeated."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Pack a run's records for support, scrubbed: no images, names of files, paths, keys or weights."""
    folder = find_run(run, runs_folder(runs))
    if out.exists():
        raise OptionError(f"--out must name a file that does not exist yet, got {out}.")
    from fl_app.files import replacing

    names = private_names()
    members = collect(folder, names)
    for number, log in enumerate(logs or [], start=1):
        if not log.is_file():
            raise OptionError(f"--log must name a file, got {log}.")
        members[f"log-{number}.txt"] = scrub(_read(log), names)
    with replacing(out.resolve()) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, text in members.items():
            bundle.writestr(name, text)
    voice = Voice(quiet)
    voice.say(f"{', '.join(members)}: {out.resolve()}")
    voice.say("Paths, names of files and keys were taken out. Look it through before you send it.")


def collect(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the scrubbed files by name: those of a fixed list that the run folder holds, and the versions.

    Args:
        folder: the run folder, maybe broken.
        names: words to be taken out.
    """
    members = {"versions.json": _to_text(_versions())}
    for name in ("run.json", "status.json"):
        if (folder / name).is_file():
            members[name] = _scrub_document(_read(folder / name), names)
    if (folder / "metrics.jsonl").is_file():
        lines = _read(folder / "metrics.jsonl").splitlines()
        members["metrics.jsonl"] = "".join(f"{_scrub_line(line, names)}\n" for line in lines if line.strip())
    for name in ("run.log", "flower.log"):
        if (folder / name).is_file():
            members[name] = scrub(_read(folder / name), names)
    return members


def private_names() -> list[str]:
    """Return the names of the user and of this machine, where they are no everyday words."""
    found = [socket.gethostname(), socket.gethostname().partition(".")[0], Path.home().name]
    with suppress(OSError, KeyError):  # a container's user may have no name
        found.append(getpass.getuser())
    return [name for name in dict.fromkeys(found) if len(name) > 2 and name not in ("root", "localhost", "user")]


def _read(path: Path) -> str:
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
