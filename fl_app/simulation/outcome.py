"""The result of a run: the verdict, from what Flower says, status.json and the rounds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fl_app.runs.documents import ENDED_WELL, RoundLine, RunStatus
from fl_app.runs.results import COMPARISON, read_comparison
from fl_app.simulation.flower import FlowerStatus


@dataclass(frozen=True)
class Outcome:
    """The end of a run.

    Attributes:
        state: completed; degraded: finished, but some site did not contribute; or failed.
        reason: why it is not completed.
        sites: the sites that did not contribute to some round, each with its last reason.
        folder: the run folder, absolute; None if the run made none.
        gallery: the picture to look at first, absolute.
    """

    state: Literal["completed", "degraded", "failed"]
    reason: str | None = None
    sites: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    gallery: Path | None = None

    @property
    def exit_status(self) -> int:
        """1 for a failed run, else 0."""
        return 1 if self.state == "failed" else 0


def judge(flower: FlowerStatus, status: RunStatus | None, rounds: Sequence[RoundLine], folder: Path | None) -> Outcome:
    """Judge a run: Flower and the server must both have ended well; the server fails a run that learned nothing.

    Args:
        flower: what Flower says.
        status: status.json; None if there is none.
        rounds: metrics.jsonl.
        folder: the run folder, if it exists.
    """
    known = status or RunStatus()
    gallery = Path(known.gallery) if known.gallery else None
    sites = find_troubled_sites(known)
    reason = _find_failure(flower, status, rounds)
    if reason is not None:
        return Outcome("failed", reason, sites, folder, gallery)
    return Outcome("degraded" if known.state == "degraded" else "completed", known.reason, sites, folder, gallery)


def find_troubled_sites(status: RunStatus) -> dict[str, str]:
    """Return the sites that failed or were rejected, late or absent in any round, each with its last reason."""
    troubled = {site: str(reason or "failed") for site, reason in status.failed.items()}
    for site, node in status.nodes.items():
        counts = [f"{n} {kind}" for kind in ("failed", "refused", "late", "absent") if (n := getattr(node, kind))]
        if counts:
            reason = node.reason or troubled.get(site, "")
            troubled[site] = ", ".join(counts) + (f": {reason}" if reason else "")
    return troubled


def describe_comparison(folder: Path) -> list[str]:
    """Return lines on the figures of each way of training a classifier, and on which images they were measured."""
    rows = read_comparison(folder)
    if not rows:
        return []
    shown = [row for row in rows if not row["approach"].endswith("prototypes")]
    sizes = [int(row["n"]) for row in shown if row["n"].isdigit()]
    lines = []
    if sizes:
        lines = [f"classifiers, on {max(sizes)} test images:"]
    elif shown:
        lines = ["classifiers, no test set; home: on the nodes' own held-out images:"]
    for row in shown:
        if row["n"].isdigit():
            found = f"accuracy {_short(row['accuracy'])}, auc {_short(row['auc'])}"
            if int(row["n"]) != max(sizes):
                found += f" (on {row['n']} images)"
        else:  # not measured on the test images of all nodes
            found = row["n"] or "no test set"
            if row["home-accuracy"]:
                found += f"; home accuracy {_short(row['home-accuracy'])} on {row['home-n']} images"
        lines.append(f"  {row['approach']} ({row['head']}): {found}")
    return [*lines, f"comparison: {folder / COMPARISON}"]


def _short(figure: str) -> str:
    try:
        return f"{float(figure):.3f}"
    except ValueError:
        return figure


def _find_failure(flower: FlowerStatus, status: RunStatus | None, rounds: Sequence[RoundLine]) -> str | None:
    """Return why the run failed; None if it did not."""
    if status is not None and status.state == "failed":
        return status.reason or "the server gave no reason"
    if not flower.is_completed:
        details = flower.details if flower.details not in ("", "N/A") else "see the log"
        return f"Flower says '{flower.status}': {details}"
    if status is None:
        return "the server wrote no status.json"
    if status.state not in ENDED_WELL:
        return f"the server stopped while '{status.state}'"
    if not any(one.outcome == "ok" for one in rounds):
        return "no round counted, so nothing was learned"
    return None
