"""status.json: what a run is doing now, and at the end what came of it and of each site."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fl_app.files import write_json
from fl_app.runs.folder import RunFolder
from fl_app.strategies.outcomes import NodeOutcome, RoundRecord

State = Literal["starting", "waiting", "running", "finishing", "completed", "degraded", "failed"]

_KEPT_REASONS = 5
_OUTCOMES = ("contributed", "empty")
_FAULTS = ("refused", "failed", "late", "absent")


class Status:
    """Keeps status.json up to date, written whole at every change."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.nodes: dict[str, dict[str, Any]] = {}
        self.num_failed_rounds = 0
        self.blemishes: list[str] = []
        self._document: dict[str, Any] = {
            "state": "starting",
            "reason": None,
            "task": None,
            "round": 0,
            "num-rounds": 0,
            "asked": [],
            "replied": [],
            "failed": {},
            "nodes": self.nodes,
            "folder": str(folder.path),
            "gallery": None,
        }

    def set(self, state: State, reason: str | None = None, more: Mapping[str, object] | None = None) -> None:
        """Write a new state."""
        self._document |= {"state": state, "reason": reason, **(more or {})}
        self._document["updated"] = time.time()
        write_json(self.folder.status_file, self._document)

    def show_round(self, record: RoundRecord, num_rounds: int) -> None:
        """Write who has answered so far in a round."""
        good = [site for site, node in record.nodes.items() if node.outcome in ("contributed", "empty")]
        bad = {site: node.reason for site, node in record.nodes.items() if site not in good}
        progress = {"task": record.task, "round": record.round_number, "num-rounds": num_rounds}
        self.set("running", None, progress | {"asked": record.asked, "replied": sorted(good), "failed": bad})

    def show_measuring(self, answered: int, asked: int) -> None:
        """Write how many of the sites that were asked for sums have answered."""
        said = f"{answered} of {asked} sites have answered" if answered else f"asking {asked} sites for their sums"
        self.set(self._document["state"], said)

    def count(self, outcomes: Mapping[str, NodeOutcome], when: str) -> None:
        """Count outcomes against their sites; the first reason is kept and the last few.

        Args:
            outcomes: by site.
            when: what they are outcomes of, and its time; see `moment`.
        """
        for site, node in outcomes.items():
            counts = self.nodes.setdefault(site, dict.fromkeys((*_OUTCOMES, *_FAULTS), 0) | {"reasons": []})
            counts[node.outcome] += 1
            if node.reason and node.outcome in _FAULTS:
                reasons = [*counts["reasons"], f"{when}: {node.reason}"]
                counts["reasons"] = reasons[:1] + reasons[1:][1 - _KEPT_REASONS :]

    def blemish(self, what: str) -> None:
        """Remember something that went wrong and did not end the run."""
        self.blemishes.append(what)

    def end(self) -> None:
        """Write the final state: completed, or degraded with what was not always there."""
        faulty = {
            site: ", ".join(f"{_times(counts[fault])} {fault}" for fault in _FAULTS if counts[fault])
            + f" (first: {counts['reasons'][0]})" * bool(counts["reasons"])
            for site, counts in sorted(self.nodes.items())
            if any(counts[fault] for fault in _FAULTS)
        }
        reasons = [*self.blemishes, *(f"{site} {times}" for site, times in faulty.items())]
        if self.num_failed_rounds:
            reasons.insert(0, f"{self.num_failed_rounds} rounds failed")
        if reasons:
            self.set("degraded", "; ".join(reasons))
        else:
            self.set("completed")

    def set_gallery(self, path: Path) -> None:
        """Remember the newest gallery."""
        self._document["gallery"] = str(path)


def moment(what: str, seconds: float) -> str:
    """Say what happened when; `seconds`: unix time."""
    return f"{what}, {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seconds))}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
