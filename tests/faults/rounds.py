"""A run as a coordinator sees it: its folder, round by round."""

import time
from pathlib import Path

from fl_app.options.sections import OptionValue
from fl_app.runs.documents import RoundLine, RunStatus
from fl_app.runs.folder import RunFolder, read_status
from tests.faults.deployment import ROOT, Deployment, wait_until
from tests.faults.images import CLASSES

_AROUND_A_ROUND = 100.0  # seconds to find out who is there, and that a silent node is not
ENDED = ("completed", "degraded", "failed")


def small_classification(federation: Deployment, name: str, num_rounds: int) -> dict[str, OptionValue]:
    """Return the options of a run that costs nothing but the processes that Flower starts."""
    return {
        "tasks": "classification",
        "output-dir": str(federation.runs),
        "run-name": name,
        "checkpoint-every": 1,
        "gallery-every": 0,
        "data.source": "folder",
        "data.class-names": ",".join(CLASSES),
        "data.num-channels": 1,
        "data.image-size": 8,
        "data.validation-share": 0.2,
        "classification.num-rounds": num_rounds,
        "classification.embedding-size": 8,
        "classification.keep-optimizer-state": True,
        "federation.min-nodes": 3,
        "federation.wait-seconds": federation.deadline_seconds,  # for the nodes to say who they are, too
        "federation.min-replies": 1,
        "federation.round-deadline-seconds": federation.deadline_seconds,
    }


class Run:
    """A run that goes on while a test watches it."""

    def __init__(self, federation: Deployment, options: dict[str, OptionValue], app: Path = ROOT) -> None:
        self.federation = federation
        self.options = options
        self.patience_seconds = _AROUND_A_ROUND + 2 * federation.deadline_seconds
        self.folder = RunFolder(federation.runs / str(options["run-name"]))
        self._submitted = time.time()  # a resumed run has a status already
        self.id = federation.submit(options, app)

    @property
    def status(self) -> RunStatus:
        """What status.json says now."""
        return read_status(self.folder)

    def begin_round(self) -> int:
        """Wait for a round in which nobody has answered yet, and return its number."""

        def is_fresh() -> bool:
            status = self.status
            self._check_going_on(status)
            if status.round != len(self.folder.read_metrics()) + 1:
                return False
            answered = {*status.replied, *status.failed}
            return bool(status.asked) and not answered & {*status.asked}

        wait_until(is_fresh, "a round begins", 2 * self.patience_seconds)
        return self.status.round

    def end_round(self, number: int) -> RoundLine:
        """Wait for the end of a round and return its line of metrics.jsonl."""

        def is_over() -> bool:
            is_there = len(self.folder.read_metrics()) >= number
            if not is_there:
                self._check_going_on(self.status)
            return is_there

        wait_until(is_over, f"round {number} ends", self.patience_seconds)
        return self.folder.read_metrics()[number - 1]

    def wait_for_end(self) -> RunStatus:
        """Wait until this run has ended, by its own account and by Flower's, and return status.json."""

        def has_ended() -> bool:
            status = self.status
            return (status.updated or 0) > self._submitted and status.state in ENDED

        wait_until(has_ended, "the run ends", 6 * self.patience_seconds)
        wait_until(lambda: self.federation.flower_status(self.id).startswith("finished"), "Flower knows it", 60)
        return self.status

    def _check_going_on(self, status: RunStatus) -> None:
        assert status.state not in ENDED, f"the run has ended: {status}"
