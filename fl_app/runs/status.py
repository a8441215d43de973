"""Keeps status.json: what a run is doing now, and at the end its result and each site's record."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fl_app.files import to_json, write_json
from fl_app.runs.documents import FAULTS, Note, RunStatus, SiteCounts, State, time_label
from fl_app.runs.folder import RunFolder, read_status
from fl_app.strategies.node_outcome import NodeOutcome
from fl_app.strategies.outcomes import RoundRecord


class Status:
    """Keeps status.json up to date; the file is replaced as a whole at every change.

    Attributes:
        num_failed_rounds: so far.
        blemishes: problems that did not end the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        """Begin anew; of a resumed run only the notes are kept, until `recall`: its rounds are counted again."""
        self.num_failed_rounds = 0
        self.blemishes: list[str] = []
        self._file = folder.status_file
        self._earlier = read_status(folder).notes
        self._noted: set[str] = set()
        self._now = RunStatus(folder=str(folder.path), notes=self._earlier)

    def set(self, state: State, reason: str | None = None, **more: Any) -> None:
        """Write a new state; `more`: further fields of RunStatus."""
        self._now = replace(self._now, state=state, reason=reason, updated=time.time(), **more)
        write_json(self._file, to_json(self._now))

    def show_round(self, record: RoundRecord, num_rounds: int) -> None:
        """Write which sites have answered so far in a round."""
        good = [site for site, node in record.nodes.items() if node.outcome in ("contributed", "empty")]
        self.set(
            "running",
            task=record.task,
            round=record.round_number,
            num_rounds=num_rounds,
            described={},
            asked=tuple(record.asked),
            replied=tuple(sorted(good)),
            failed={site: node.reason for site, node in record.nodes.items() if site not in good},
        )

    def show_measuring(self, answered: int, asked: int) -> None:
        """Write how many of the sites that were asked for sums have answered."""
        said = f"{answered} of {asked} sites have answered" if answered else f"asking {asked} sites for their sums"
        self.set(self._now.state, said)

    def count(self, outcomes: Mapping[str, NodeOutcome], when: str) -> None:
        """Add outcomes to the sites' counts.

        Args:
            outcomes: by site.
            when: what they are outcomes of, and its time; see `documents.time_label`.
        """
        nodes = dict(self._now.nodes)
        for site, node in outcomes.items():
            nodes[site] = nodes.get(site, SiteCounts()).with_outcome(node, when)
        self._now = replace(self._now, nodes=nodes)

    def note(
        self, of: str, what: str, outcomes: Mapping[str, NodeOutcome] | None = None, problem: str | None = None
    ) -> None:
        """Count the sites that did not contribute to something outside the rounds, so that a resumed run knows it, too.

        Args:
            of: the pass that it belongs to, or another part of the run.
            what: was done; replaces an earlier note of the same.
            outcomes: of every site that was asked.
            problem: that did not end the run.
        """
        missing = {site: one for site, one in (outcomes or {}).items() if one.outcome != "contributed"}
        self._take(Note(of, what, time.time(), missing, problem))

    def recall(self, of: str, what: str | None = None) -> None:
        """Take over what an earlier process noted of a part of the run that is not done again.

        Args:
            of: see `note`.
            what: only the note of this; None: all of that part.
        """
        for one in self._earlier:
            if one.of == of and what in (None, one.what) and one.what not in self._noted:
                self._take(one)

    def _take(self, note: Note) -> None:
        self._noted.add(note.what)
        others = tuple(one for one in self._now.notes if one.what != note.what)
        is_one = bool(note.missing or note.problem)
        self._now = replace(self._now, notes=(*others, note) if is_one else others)
        self.count(note.missing, time_label(note.what, note.when))
        if note.problem:
            self.blemish(note.problem)
        write_json(self._file, to_json(self._now))

    def blemish(self, what: str) -> None:
        """Remember a problem that did not end the run."""
        if what not in self.blemishes:
            self.blemishes.append(what)

    def end(self) -> None:
        """Write the final state: completed, or degraded with its reasons."""
        reasons = list(self.blemishes)
        if self.num_failed_rounds:
            reasons.insert(0, f"{self.num_failed_rounds} rounds failed")
        for site, counts in sorted(self._now.nodes.items()):
            faults = [(count, fault) for fault in FAULTS if (count := getattr(counts, fault))]
            if faults:
                times = ", ".join(f"{'once' if count == 1 else f'{count} times'} {fault}" for count, fault in faults)
                reasons.append(f"{site} {times}" + (f" (first: {counts.reasons[0]})" if counts.reasons else ""))
        if reasons:
            self.set("degraded", "; ".join(reasons), reasons=tuple(reasons))
        else:
            self.set("completed")

    def set_gallery(self, path: Path) -> None:
        """Remember the newest gallery."""
        self._now = replace(self._now, gallery=str(path))
