"""The progress of a run, read from status.json and, line by line, from metrics.jsonl."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fl_app.files import from_json
from fl_app.runs.documents import RoundLine, RunStatus

_MARKS = ("run.json", "status.json", "metrics.jsonl")  # what a server writes


@dataclass(frozen=True)
class Progress:
    """A run at one moment; what the run has not written is None or empty.

    Attributes:
        state: starting, waiting, running, finishing, completed, degraded or failed; unknown if status.json is damaged.
        reason: why it waits, failed or is unknown.
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
        folder: the run folder, which may not exist yet.
        since: unix seconds at which this attempt started.

    Attributes:
        num_damaged: lines of metrics.jsonl that cannot be read.
    """

    def __init__(self, folder: Path, since: float) -> None:
        self._folder = folder
        self._since = since
        self._offset = 0
        self._rounds: list[RoundLine] = []
        self.num_damaged = 0

    @property
    def folder(self) -> Path | None:
        """The run folder; None if no server has begun to write there."""
        return self._folder if any((self._folder / name).is_file() for name in _MARKS) else None

    def read_status(self) -> RunStatus | None:
        """Read status.json; None if it is damaged, or if this attempt has not written it yet."""
        path = self.folder / "status.json" if self.folder else None
        if path is None or not self._is_fresh(path):
            return None
        return from_json(RunStatus, path.read_bytes())

    def read_rounds(self) -> Sequence[RoundLine]:
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
        records = [from_json(RoundLine, line) for line in complete.split(b"\n") if line]
        self._rounds = [*self._rounds, *(record for record in records if record is not None)]
        self.num_damaged += records.count(None)
        return self._rounds

    def _is_fresh(self, path: Path) -> bool:
        # Two seconds for file systems with coarse times.
        return path.is_file() and path.stat().st_mtime >= self._since - 2


def summarise(status: RunStatus | None, rounds: Sequence[RoundLine]) -> Progress:
    """Return the progress from both files; None: there is no status yet."""
    if status is None:
        return Progress("starting")
    done = [one for one in rounds if one.task == status.task]
    last = next((one for one in reversed(done) if one.outcome == "ok"), None)
    is_running = status.state == "running"
    asked = status.asked if is_running else ()
    return Progress(
        state=status.state,
        reason=status.reason,
        task=status.task,
        round=status.round,
        num_rounds=status.num_rounds,
        replied=status.replied,
        failed=status.failed,
        awaited=tuple(site for site in asked if site not in status.replied and site not in status.failed),
        loss=last.train_loss if last else None,
        validation_loss=last.validation_loss if last else None,
        images_per_second=last.images_per_second if last else None,
        seconds_left=estimate_seconds(done, status.num_rounds) if is_running else None,
    )


def estimate_seconds(rounds: Sequence[RoundLine], num_rounds: int) -> float | None:
    """Estimate the time of the remaining rounds from the last five; None before the first."""
    times = [one.seconds for one in rounds if one.seconds is not None][-5:]
    if not times:
        return None
    return max(num_rounds - max(one.round for one in rounds), 0) * sum(times) / len(times)
