"""The state of a live, finished or broken run, read from its folder, for the coordinator."""

import fcntl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from fl_app.errors import RunFolderError, UnknownRunError, did_you_mean
from fl_app.files import to_json
from fl_app.runs.audit import Audit, read_audit
from fl_app.runs.documents import ENDED, RoundLine, RunStatus, SiteCounts
from fl_app.runs.progress import Progress, RunReader, summarise
from fl_app.runs.quality import QualityDocument, read_quality
from fl_app.runs.results import read_comparison, results
from fl_app.runs.run_json import RunDocument, read_document

DEFAULT_OUTPUT = Path("~/fl-app/runs")
REPORT = "report.html"  # in a run folder
CLAIM = ".start"  # the lock in a run folder of the `fl-app run` that starts a server there
_MARKS = ("run.json", "status.json")
_MODEL_MARKS = ("model.json", "model_index.json")


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """The files of a run, each read once; one that is missing or damaged is None or empty.

    Attributes:
        document: run.json.
        status: status.json.
        rounds: the lines of metrics.jsonl.
        comparison: rows of comparison.csv.
        quality: figures of generated images.
    """

    document: RunDocument | None = None
    status: RunStatus | None = None
    rounds: Sequence[RoundLine] = ()
    comparison: Sequence[Mapping[str, str]] = ()
    quality: QualityDocument | None = None


@dataclass(frozen=True)
class Overview:
    """A run at one moment.

    Attributes:
        folder: the run folder, absolute.
        progress: state, round, sites that answered, the last figures.
        seconds_since: since the server last wrote; None if it never did.
        is_alive: whether a server holds the folder; None if this is unknown.
        sites: by name, how often each outcome occurred, and the last reason.
        num_rounds_failed: rounds that did not count.
        problems: what is wrong with the folder itself.
        flower_runs: Flower's ids of this run; each resume adds one.
        images: by site, how many images of each class it trains on, holds out and tests on.
        described: sites that have described their images while the run waits for more sites.
        tasks: that it trains.
        started: when, with the time zone; None if run.json does not say.
        results: figures by name, see `fl_app.runs.results`.
        audit: of the diffusion model; None if there is none, or if its file is damaged.
        files: that all of this was read from.
    """

    folder: Path
    progress: Progress
    seconds_since: float | None
    is_alive: bool | None
    sites: Mapping[str, SiteCounts] = field(default_factory=dict)
    num_rounds_failed: int = 0
    problems: Sequence[str] = ()
    flower_runs: Sequence[str] = ()
    images: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)
    described: Sequence[str] = ()
    tasks: Sequence[str] = ()
    started: str | None = None
    results: Mapping[str, float] = field(default_factory=dict)
    audit: Audit | None = None
    files: RunFiles = RunFiles()

    @property
    def state(self) -> str:
        """starting, waiting, running, finishing, completed, degraded or failed; unknown if status.json is damaged."""
        return self.progress.state

    @property
    def is_stopped(self) -> bool:
        """Whether the run has not ended and no server works on it; False if either is unknown."""
        return self.is_alive is False and self.state not in (*ENDED, "unknown")

    @property
    def is_going_on(self) -> bool:
        """Whether the run has not ended and, as far as is known, a server works on it."""
        return not self.is_stopped and self.state not in (*ENDED, "unknown")

    def to_json(self) -> dict[str, object]:
        """Return all of it but the files as JSON takes it, keys in kebab-case."""
        found = asdict(replace(self, files=RunFiles())) | {"folder": str(self.folder)}
        del found["files"]
        found["progress"] = {name.replace("_", "-"): value for name, value in found["progress"].items()}
        found["audit"] = None if self.audit is None else to_json(self.audit)
        for site, counts in self.sites.items():
            del found["sites"][site]["reasons"]
            found["sites"][site]["reason"] = counts.reason
        return {name.replace("_", "-"): value for name, value in found.items()}


def find_run(named: Path | None, runs: Path) -> Path:
    """Return a run folder, absolute: the named one, one of that name below `runs`, or the newest there.

    Raises:
        UnknownRunError: there is none.
    """
    if named is not None:
        for folder in (named.expanduser(), runs / named):
            if _holds(folder, _MARKS):
                return folder.resolve()
        there = next((folder for folder in (named.expanduser(), runs / named) if folder.is_dir()), None)
        if there is not None:
            raise UnknownRunError(f"{there} is no run folder: it holds no run.json.{similar_run(named, runs)}")
        raise UnknownRunError(f"No run '{named}' in {runs}.{similar_run(named, runs)}")
    found = find_runs(runs)
    if not found:
        raise UnknownRunError(f"There is no run in {runs}. Name a run folder, or the folder that holds the runs.")
    return found[0]


def find_runs(runs: Path) -> list[Path]:
    """Return the run folders below a folder, absolute, the newest first; those without a run.json are the last."""
    found = {path.parent: path.stat().st_mtime for path in runs.glob("*/run.json")}
    broken = sorted({path.parent for path in runs.glob("*/status.json")} - found.keys())
    return [folder.resolve() for folder in (*sorted(found, key=found.__getitem__, reverse=True), *broken)]


def find_strangers(runs: Path) -> list[Path]:
    """Return the folders below a folder that hold no run, absolute: none that is hidden or that a run starts in."""
    folders = [path for path in sorted(runs.glob("[!.]*")) if path.is_dir()]
    return [folder.resolve() for folder in folders if not _holds(folder, (*_MARKS, CLAIM))]


def find_named(named: Path, runs: Path) -> Path:
    """Return the folder of a run or of an exported model, absolute: at that path, or of that name below `runs`.

    If the path holds neither, a run of that name is preferred; if there is none, the path itself is returned.
    """
    places = (named.expanduser(), runs / named)
    marked = [folder for folder in places if _holds(folder, _MARKS + _MODEL_MARKS)]
    there = [folder for folder in places if folder.exists()]
    return (*marked, *there, places[0])[0].resolve()


def similar_run(named: Path, runs: Path) -> str:
    """Return the end of the error for an unknown run: a similar name, else how to list the runs."""
    names = [folder.name for folder in find_runs(runs)]
    return did_you_mean(named.name, names) or " `fl-app runs` lists those that are there."


def runs_folder(named: str | Path | None) -> Path:
    """Return where run folders are: the named folder, else ~/fl-app/runs."""
    return Path(named or DEFAULT_OUTPUT).expanduser()


def _holds(folder: Path, names: Sequence[str]) -> bool:
    return any((folder / name).is_file() for name in names)


def look_at(folder: Path, now: float) -> Overview:
    """Read a run folder, even if files are missing or damaged; `now`: unix seconds."""
    reader = RunReader(folder, since=0.0)
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
        if (folder / "status.json").exists():
            progress = Progress("unknown", "status.json is damaged")
            problems.append(_advise_on_damage(is_alive, document is not None))
        else:
            problems.append("status.json was never written")
    if reader.num_damaged:
        damage = f"{reader.num_damaged} lines of metrics.jsonl are damaged"
        problems.append(f"{damage}: the figures of these rounds are lost")
    if is_alive is False and status is not None and status.state not in ENDED:
        goes_on = ", and can be resumed" if document is not None else ""
        problems.append(f"no server works on this run any more: it was killed{goes_on}")
    try:
        audit = read_audit(folder)
    except RunFolderError as error:
        audit = None
        problems.append(str(error).replace(f"{folder}/", "").rstrip("."))  # a report names no path of this machine
    updated = status.updated if status else None
    described = status.described if status and status.state == "waiting" else {}
    tasks = [one.strip() for one in str(document.options.get("tasks", "")).split(",")] if document else []
    comparison, quality = read_comparison(folder), read_quality(folder)
    return Overview(
        folder=folder,
        progress=progress,
        seconds_since=None if updated is None else max(now - updated, 0.0),
        is_alive=is_alive,
        sites=_sites(status or RunStatus(), rounds, described),
        num_rounds_failed=sum(one.outcome == "failed" for one in rounds),
        problems=problems,
        flower_runs=document.flower_runs if document else (),
        images={**described, **(document.nodes if document else {})},
        described=sorted(described),
        tasks=tasks,
        started=document.started if document else None,
        results=results(tasks, rounds, comparison, quality),
        audit=audit,
        files=RunFiles(document=document, status=status, rounds=rounds, comparison=comparison, quality=quality),
    )


def _advise_on_damage(is_alive: bool | None, is_resumable: bool) -> str:
    """Say what to do about a damaged status.json."""
    found = "status.json is damaged: whether the run has finished is not known."
    if is_alive:
        return f"{found} Its server is at work and writes the file anew at its next step"
    return f"{found} Resume the run: it keeps what is finished and does the rest" if is_resumable else found[:-1]


def _sites(status: RunStatus, rounds: Sequence[RoundLine], described: Iterable[str]) -> dict[str, SiteCounts]:
    """Return each site's counts from status.json, which also counts the final measurement; else from the rounds."""
    known = dict(status.nodes)
    if not known:
        for one in rounds:
            for site, node in one.nodes.items():
                known[site] = known.get(site, SiteCounts()).with_outcome(node)
    return dict(sorted({**dict.fromkeys(described, SiteCounts()), **known}.items()))


def is_held(folder: Path, lock: str = ".lock") -> bool | None:
    """Return whether a server holds a run folder; None if this is unknown, as on a disk of another machine."""
    try:
        with (folder / lock).open("rb") as file:
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
