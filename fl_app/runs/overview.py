"""The state of a live, finished or broken run, read from its folder, for the coordinator."""

import fcntl
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypedDict

from fl_app.errors import RunFolderError
from fl_app.runs.progress import Progress, RunReader, SeenRound, SeenStatus, summarise
from fl_app.runs.run_json import RunDocument, read_document

DEFAULT_OUTPUT = Path("~/fl-app/runs")


class SiteRecord(TypedDict):
    """How often each outcome occurred at a site, and the last reason."""

    contributed: int
    empty: int
    refused: int
    failed: int
    late: int
    absent: int
    reason: str | None


@dataclass(frozen=True)
class Overview:
    """A run at one moment.

    Attributes:
        folder: the run folder, absolute.
        progress: state, round, sites that answered, the last figures.
        seconds_since: since the server last wrote; None if it never did.
        is_alive: whether a server holds the folder; None if this is unknown.
        sites: by name, the counts of outcomes, and as `reason` the last reason.
        num_rounds_failed: rounds that did not count.
        problems: what is wrong with the folder itself.
        flower_runs: Flower's ids of this run; each resume adds one.
        images: by site, how many images of each class it trains on, holds out and tests on.
    """

    folder: Path
    progress: Progress
    seconds_since: float | None
    is_alive: bool | None
    sites: Mapping[str, SiteRecord] = field(default_factory=dict)
    num_rounds_failed: int = 0
    problems: Sequence[str] = ()
    flower_runs: Sequence[str] = ()
    images: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """starting, waiting, running, finishing, completed, degraded or failed."""
        return self.progress.state

    def to_json(self) -> dict[str, object]:
        """Return all of it as JSON takes it, keys in kebab-case."""
        found = asdict(self) | {"folder": str(self.folder)}
        found["progress"] = {name.replace("_", "-"): value for name, value in found["progress"].items()}
        return {name.replace("_", "-"): value for name, value in found.items()}


def find_run(named: Path | None, output: Path) -> Path:
    """Return a run folder: the named one, one of that name below `output`, or the newest there.

    Raises:
        RunFolderError: there is none.
    """
    if named is not None:
        for folder in (named.expanduser(), output / named):
            if (folder / "run.json").is_file() or (folder / "status.json").is_file():
                return folder.resolve()
        raise RunFolderError(f"{named}: no run folder of that name, nor one in {output}; it would hold a run.json.")
    found = find_runs(output)
    if not found:
        raise RunFolderError(f"There is no run in {output}: name a run folder, or give --out.")
    return found[0]


def find_runs(output: Path) -> list[Path]:
    """Return the run folders below a folder, absolute, the newest first."""
    found = {path.parent: path.stat().st_mtime for path in output.glob("*/run.json")}
    return [folder.resolve() for folder in sorted(found, key=lambda folder: found[folder], reverse=True)]


def find_named(named: Path) -> Path:
    """Return a folder, absolute: the one at that path, else the run of that name in ~/fl-app/runs, if it is there."""
    below = DEFAULT_OUTPUT.expanduser() / named
    return (below if below.is_dir() and not named.expanduser().exists() else named.expanduser()).resolve()


def look_at(folder: Path, now: float) -> Overview:
    """Read a run folder, even if files are missing or damaged; `now`: unix seconds."""
    reader = RunReader(folder, folder.parent, since=0.0)
    status, rounds = reader.read_status(), reader.read_rounds()
    progress = summarise(status, rounds)
    is_alive, problems = is_held(folder), []
    try:
        document: RunDocument | None = read_document(folder)
    except RunFolderError:
        document = None
        damage = "damaged" if (folder / "run.json").is_file() else "missing"
        problems.append(f"run.json is {damage}: this run cannot be resumed")
    if status is None:
        exists = (folder / "status.json").is_file()
        problems.append(f"status.json {'is damaged' if exists else 'was never written'}")
    if reader.num_damaged:
        damage = f"{reader.num_damaged} lines of metrics.jsonl are damaged"
        problems.append(f"{damage}: the figures of these rounds are lost")
    if is_alive is False and status is not None and progress.state not in ("completed", "degraded", "failed"):
        problems.append("no server works on this run any more: it was killed, and can be resumed")
    updated = status.get("updated") if status else None
    return Overview(
        folder=folder,
        progress=progress,
        seconds_since=None if updated is None else max(now - updated, 0.0),
        is_alive=is_alive,
        sites=_sites(status or {}, rounds),
        num_rounds_failed=sum(one.get("outcome") == "failed" for one in rounds),
        problems=problems,
        flower_runs=document.flower_runs if document else (),
        images=document.nodes if document else {},
    )


def _sites(status: SeenStatus, rounds: Sequence[SeenRound]) -> dict[str, SiteRecord]:
    """Return each site's record from status.json, which also counts the final measurement; else from the rounds."""
    known = dict(status.get("nodes") or {})
    if not known:
        for one in rounds:
            for site, node in (one.get("nodes") or {}).items():
                counts = known.setdefault(site, {"reasons": []})
                outcome = node.get("outcome") or "failed"
                counts[outcome] = counts.get(outcome, 0) + 1
                counts["reasons"] += [node["reason"]] if node.get("reason") else []
    return {
        name: {
            "contributed": node.get("contributed", 0),
            "empty": node.get("empty", 0),
            "refused": node.get("refused", 0),
            "failed": node.get("failed", 0),
            "late": node.get("late", 0),
            "absent": node.get("absent", 0),
            "reason": node["reasons"][-1] if node.get("reasons") else None,
        }
        for name, node in sorted(known.items())
    }


def is_held(folder: Path) -> bool | None:
    """Return whether a server holds a run folder; None if this is unknown, as on a disk of another machine."""
    try:
        with (folder / ".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return False


def age(seconds: float) -> str:
    """Return a rough age, such as `2 hours`."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
