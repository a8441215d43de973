"""Records a round: which sites were asked, which answered or failed, and why."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from flwr.app import Error
from numpy.typing import NDArray

from fl_app.flower import ErrorCode
from fl_app.logs import clean_text
from fl_app.messages.arrays import Weights
from fl_app.strategies.node_outcome import NodeOutcome, Outcome
from fl_app.sums import Sums, add, mean, steady

# Flower's own texts for these errors only make sense to readers of its code.
_IN_OUR_WORDS = {
    ErrorCode.MESSAGE_UNAVAILABLE: "its instruction was lost at the SuperLink, or it was removed from the federation",
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE: "its reply was lost at the SuperLink",
    ErrorCode.NODE_UNAVAILABLE: "the connection to it was lost",
    ErrorCode.CLIENT_APP_CRASHED: "its process died: out of memory, or a crash in a library",
}
_NO_SIGNATURE = "The FAB could not be verified."  # a node with --trusted-entities


@dataclass
class Traffic:
    """Bytes of the arrays sent and received.

    Attributes:
        down: to the nodes.
        up: from the nodes.
    """

    down: int = 0
    up: int = 0

    def add(self, other: "Traffic") -> None:
        """Add the bytes of another counter."""
        self.down += other.down
        self.up += other.up


@dataclass
class RoundRecord:
    """The record of one round, filled as replies arrive.

    Attributes:
        task: name of the task.
        round_number: from 1.
        asked: the sites that were sent an instruction.
        nodes: outcome of each site, including those that could not be asked.
        reason: why the round failed; None if it did not.
        seconds: wall time of the whole round.
        traffic: bytes sent and received.
    """

    task: str
    round_number: int
    asked: list[str] = field(default_factory=list)
    nodes: dict[str, NodeOutcome] = field(default_factory=dict)
    reason: str | None = None
    seconds: float = 0.0
    traffic: Traffic = field(default_factory=Traffic)
    _sums: dict[str, Sums] = field(default_factory=dict)
    _losses: dict[str, tuple[float, float]] = field(default_factory=dict)

    def note(self, site: str, outcome: NodeOutcome) -> None:
        """Record a site's outcome; a long reason is cut."""
        self.nodes[site] = replace(outcome, reason=shorten(outcome.reason) if outcome.reason else None)

    def keep(self, site: str, sums: Sums, loss_sum: float, num_losses: float) -> None:
        """Keep the sums of an admitted reply."""
        self._sums[site] = sums
        self._losses[site] = (loss_sum, num_losses)

    def sums(self) -> dict[str, Sums]:
        """Return each site's sums, by site."""
        return dict(sorted(self._sums.items()))

    def total_sums(self) -> Sums:
        """Add the sums of all sites, in the order of their names, so the order of arrival cannot matter."""
        return add(self.sums().values())

    def losses(self) -> tuple[float, float]:
        """Return the sum of the training losses and their number."""
        pairs = [pair for _, pair in sorted(self._losses.items())]
        return sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)

    def steady_loss(self, factor: float) -> float | None:
        """Return the mean training loss, which no single site moves by more than a factor; None if there is none."""
        parts = {
            site: {"loss": np.array(total), "count": np.array(number)} for site, (total, number) in self._losses.items()
        }
        total = add(parts[site] for site in sorted(parts))
        return (
            steady(total, parts, lambda sums: mean(float(sums["loss"]), float(sums["count"])), factor)
            if total
            else None
        )

    def median_loss(self) -> float | None:
        """Return the median of the sites' mean training losses, robust to one site; None if there are none."""
        means = [total / number for total, number in self._losses.values() if number > 0]
        return statistics.median(means) if means else None

    def count(self, outcome: Outcome) -> int:
        """Count the nodes with an outcome."""
        return sum(node.outcome == outcome for node in self.nodes.values())


@dataclass(frozen=True)
class Snapshot:
    """All that a run needs to go on after a round.

    Attributes:
        last_round: the round that has ended.
        models: its weights, as `Resilient.models` returned them.
        arrays: as `Resilient.state` returned them.
        values: as `Resilient.state` returned them.
    """

    last_round: int
    models: dict[str, Weights]
    arrays: dict[str, NDArray[np.generic]]
    values: dict[str, Any]


def absent(sites: Iterable[str]) -> dict[str, NodeOutcome]:
    """Return the outcome of sites that took part before and are not connected now."""
    return dict.fromkeys(sites, NodeOutcome("absent", "it was not connected"))


def failure(error: Error) -> NodeOutcome:
    """Return the outcome of a node whose answer is an error, sent by the node or created by Flower."""
    words = _IN_OUR_WORDS.get(error.code, error.reason)
    if error.code == ErrorCode.INVALID_FAB and words == _NO_SIGNATURE:  # else `--approved-code`, with its own reason
        words = "it does not trust this run's code: no known signature"
    return NodeOutcome("failed", shorten(words))


def shorten(reason: str | None) -> str:
    """Return a reason as one line of limited length: nodes may send any text, and it is stored."""
    return clean_text(reason or "no reason was given")


class Observer(Protocol):
    """Callbacks of a federation: they watch, and change nothing."""

    def waiting(self, connected: int, needed: int, missing: Sequence[str]) -> None:
        """Called while sites are awaited; `missing`: the names of known ones."""

    def measuring(self, answered: int, asked: int) -> None:
        """Called while sites are asked for sums outside a round; `answered` includes rejected answers."""

    def answered(self, message_type: str, sites: Sequence[str], traffic: Traffic) -> None:
        """Called when a question outside a round is over; `sites`: whose answers arrived, rejected ones included.

        `traffic`: its bytes, to and from all sites.
        """

    def progressed(self, record: RoundRecord) -> None:
        """Called when a round starts and when a node answers."""

    def round_ended(self, record: RoundRecord, after: Snapshot) -> None:
        """A round is over.

        Args:
            record: what happened.
            after: what came out; if the round failed, its models are those of the round before.
        """

    def rounds_over(self) -> None:
        """Called after the last round, before the final measurements."""
