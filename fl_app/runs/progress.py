"""The progress of a run, read from status.json and, line by line, from metrics.jsonl."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from typing_extensions import TypedDict  # pydantic reads those of `typing` from Python 3.12 on

from fl_app.files import from_json

T = TypeVar("T")

Outcome = Literal["contributed", "empty", "refused", "failed", "late", "absent"]


class SeenSite(TypedDict, total=False):
    """A site's entry in a round, with an outcome, or in status.json, with counts; each key may be missing."""

    outcome: Outcome
    reason: str
    reasons: list[str]
    images: float
    seconds: float
    contributed: int
    empty: int
    refused: int
    failed: int
    late: int
    absent: int


# A line of metrics.jsonl and status.json as a reader sees them: each key may be missing or null, and there may be more.
SeenRound = TypedDict(
    "SeenRound",
    {
        "task": str, "round": int, "num-rounds": int, "outcome": str, "reason": str, "asked": list[str],
        "nodes": dict[str, SeenSite], "train-loss": float, "validation-loss": float, "validation-loss-ema": float,
        "figures": dict[str, float | None], "images": int, "images-per-second": float, "seconds": float,
        "started": float, "ended": float, "bytes-down": int, "bytes-up": int,
    },
    total=False,
)  # fmt: skip
SeenStatus = TypedDict(
    "SeenStatus",
    {
        "state": str, "reason": str, "task": str, "round": int, "num-rounds": int, "asked": list[str],
        "replied": list[str], "failed": dict[str, str | None], "nodes": dict[str, SeenSite], "updated": float,
        "gallery": str, "described": dict[str, dict[str, list[int]]],
    },
    total=False,
)  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """A run at one moment; what the run has not written is None or empty.

    Attributes:
        state: starting, waiting, running, finishing, completed, degraded or failed.
        reason: why it waits or failed.
        replied: sites that answered in this round.
        failed: sites that cannot contribute to this round, and why.
        awaited: sites that are still at work.
        loss: training loss of the last round that counts.
        validation_loss: loss on the nodes' held-out images in that round.
        images_per_second: of all nodes together in that round.
        seconds_left: estimate for the remaining rounds of the task.
    """

    state: str
    reason: str | None = None
    task: str | None = None
    round: int = 0
    num_rounds: int = 0
    replied: tuple[str, ...] = ()
    failed: Mapping[str, str | None] = field(default_factory=dict)
    awaited: tuple[str, ...] = ()
    loss: float | None = None
    validation_loss: float | None = None
    images_per_second: float | None = None
    seconds_left: float | None = None


class RunReader:
    """Reads the files of one run, and ignores those of an earlier attempt.

    Args:
        folder: the run folder; None: the first one below `output` whose status.json changes.
        output: where run folders are made.
        since: unix seconds at which this attempt started.

    Attributes:
        num_damaged: lines of metrics.jsonl that cannot be read.
    """

    def __init__(self, folder: Path | None, output: Path, since: float) -> None:
        self._folder = folder
        self._output = output
        self._since = since
        self._offset = 0
        self._rounds: list[SeenRound] = []
        self.num_damaged = 0

    @property
    def folder(self) -> Path | None:
        """The run folder, if it is known and exists."""
        if self._folder is None:
            fresh = [path.parent for path in self._output.glob("*/status.json") if self._is_fresh(path)]
            self._folder = fresh[0] if fresh else None
        return self._folder if self._folder and self._folder.is_dir() else None

    def read_status(self) -> SeenStatus | None:
        """Read status.json; None if it is damaged, or if this attempt has not written it yet."""
        path = self.folder / "status.json" if self.folder else None
        if path is None or not self._is_fresh(path):
            return None
        return _read(path.read_bytes(), SeenStatus)

    def read_rounds(self) -> Sequence[SeenRound]:
        """Return all finished rounds; only lines added since the last call are read."""
        path = self.folder / "metrics.jsonl" if self.folder else None
        if path is None or not path.is_file():
            return self._rounds
        if path.stat().st_size < self._offset:  # a resumed run has cut off the rounds that it repeats
            self._offset, self._rounds, self.num_damaged = 0, [], 0
        with path.open("rb") as file:
            file.seek(self._offset)
            complete, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(complete) + len(newline)
        records = [read_round(line) for line in complete.split(b"\n") if line]
        self._rounds = [*self._rounds, *(record for record in records if record is not None)]
        self.num_damaged += records.count(None)
        return self._rounds

    def _is_fresh(self, path: Path) -> bool:
        # Two seconds for file systems with coarse times.
        return path.is_file() and path.stat().st_mtime >= self._since - 2


def summarise(status: SeenStatus | None, rounds: Sequence[SeenRound]) -> Progress:
    """Return the progress from both files; every field may be missing or null."""
    if status is None:
        return Progress("starting")
    task = status.get("task")
    done = [one for one in rounds if one.get("task") == task]
    counted = [one for one in done if one.get("outcome") == "ok"]
    last = counted[-1] if counted else {}
    num_rounds = status.get("num-rounds") or 0
    replied, failed = tuple(status.get("replied") or ()), dict(status.get("failed") or {})
    is_running = status.get("state") == "running"
    asked = status.get("asked") or () if is_running else ()
    return Progress(
        state=str(status.get("state") or "starting"),
        reason=status.get("reason"),
        task=task,
        round=status.get("round") or 0,
        num_rounds=num_rounds,
        replied=replied,
        failed=failed,
        awaited=tuple(site for site in asked if site not in replied and site not in failed),
        loss=last.get("train-loss"),
        validation_loss=last.get("validation-loss"),
        images_per_second=last.get("images-per-second"),
        seconds_left=estimate_seconds(done, num_rounds) if is_running else None,
    )


def estimate_seconds(rounds: Sequence[SeenRound], num_rounds: int) -> float | None:
    """Estimate the time of the remaining rounds from the last five; None before the first."""
    times = [float(one["seconds"]) for one in rounds if one.get("seconds") is not None][-5:]
    if not times:
        return None
    last = max(int(one.get("round") or 0) for one in rounds)
    return max(num_rounds - last, 0) * sum(times) / len(times)


def read_round(text: bytes) -> SeenRound | None:
    """Read a line of metrics.jsonl; None if it is damaged."""
    return _read(text, SeenRound)


def _read(text: bytes, kind: type[T]) -> T | None:
    """Read a JSON object; None if it is damaged. Every field may be missing or null, and there may be others."""
    try:
        found: T = json.loads(text)
    except ValueError:
        return None
    if not isinstance(found, dict) or from_json(kind, _without_null(found), strict=True) is None:
        return None
    return found


def _without_null(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_null(one) for name, one in value.items() if one is not None}
    return value
