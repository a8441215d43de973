"""What a run writes down while it goes on: a line of metrics.jsonl and status.json; imports nothing heavy.

Writers and readers share these classes. `from_json` reads them: a field that an older version did not write gets its
default, a field that is not known is ignored, and a value of another type makes the document a damaged one.
"""

import time
from dataclasses import field, replace
from pathlib import Path
from typing import Literal, TypeVar

from pydantic.dataclasses import dataclass

from fl_app.errors import RunFolderError
from fl_app.files import KEBAB, from_json
from fl_app.strategies.node_outcome import NodeOutcome

State = Literal["starting", "waiting", "running", "finishing", "completed", "degraded", "failed"]

T = TypeVar("T")

ENDED_WELL = ("completed", "degraded")
ENDED = (*ENDED_WELL, "failed")
FAULTS = ("refused", "failed", "late", "absent")
LOSS_CURVES = (  # of a pass: field, what it is, and the field that says of which round
    ("train_loss", "training", "round"),
    ("validation_loss", "held out, raw weights", "validated_round"),
    ("validation_loss_ema", "held out, EMA", "validated_round"),
    ("validation_loss_node_ema", "held out, nodes' EMA", "validated_round"),
)
_KEPT_REASONS = 5


@dataclass(frozen=True, kw_only=True, config=KEBAB)
class RoundLine:
    """A line of metrics.jsonl; None if something was not measured.

    Attributes:
        num_rounds: of the pass; 0 if unknown.
        outcome: `ok`, or `failed` with a reason.
        train_loss: mean over the images of all sites, which no single site moves by more than a factor of 3; the
            validation losses, too.
        median_train_loss: median of the sites' means.
        validated_round: the round after which the weights were measured, 0 for the initial ones.
        validation_loss: of these weights on held-out images; the next two of their averages.
        figures: of the task, of these weights.
        drawn: Fréchet distance of images that the server drew after this round, by name of the weights; empty in rounds
            without a gallery.
        images: that the sites trained on, each epoch counted.
        started: unix time; `ended`, too.
        nodes: outcome of each site.
    """

    task: str
    round: int
    num_rounds: int = 0
    outcome: Literal["ok", "failed"]
    reason: str | None = None
    train_loss: float | None = None
    median_train_loss: float | None = None
    validated_round: int | None = None
    validation_loss: float | None = None
    validation_loss_ema: float | None = None
    validation_loss_node_ema: float | None = None
    figures: dict[str, float | None] = field(default_factory=dict)
    drawn: dict[str, float] = field(default_factory=dict)
    images: int = 0
    started: float | None = None
    ended: float | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    bytes_down: int = 0
    bytes_up: int = 0
    asked: list[str] = field(default_factory=list)
    nodes: dict[str, NodeOutcome] = field(default_factory=dict)


@dataclass(frozen=True, config=KEBAB)
class SiteCounts:
    """How often each outcome occurred at a site.

    Attributes:
        reasons: the first reason and the last few.
    """

    contributed: int = 0
    empty: int = 0
    refused: int = 0
    failed: int = 0
    late: int = 0
    absent: int = 0
    reasons: tuple[str, ...] = ()

    @property
    def reason(self) -> str | None:
        """The last reason; None if there is none."""
        return self.reasons[-1] if self.reasons else None

    def with_outcome(self, node: NodeOutcome, when: str | None = None) -> "SiteCounts":
        """Return the counts with one more outcome; `when`: what it is an outcome of, written before its reason."""
        reasons = self.reasons
        if node.reason and node.outcome in FAULTS:
            reasons = (*reasons, f"{when}: {node.reason}" if when else node.reason)
            reasons = reasons[:1] + reasons[1:][1 - _KEPT_REASONS :]
        return replace(self, **{node.outcome: getattr(self, node.outcome) + 1, "reasons": reasons})


@dataclass(frozen=True, config=KEBAB)
class Note:
    """What went wrong in a run outside its rounds, which metrics.jsonl does not tell.

    Attributes:
        of: the pass that it belongs to, or another part of the run, such as `generated images`.
        what: what was done, such as `final measurement of diffusion`.
        when: unix time.
        missing: outcomes of the sites that did not contribute.
        problem: in words; None if only sites are missing.
    """

    of: str
    what: str
    when: float
    missing: dict[str, NodeOutcome] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True, config=KEBAB)
class RunStatus:
    """The content of status.json.

    Attributes:
        reason: why the run waits, failed, or is degraded.
        reasons: the same of a degraded run, one by one; a reason may hold any sign.
        notes: what went wrong outside rounds, so that a resumed run does not forget it.
        task: that is being trained.
        round: of this task.
        asked: sites that were asked in this round.
        replied: sites that have answered.
        described: while sites are awaited, how many images of each class those hold that have come.
        failed: sites that cannot contribute to this round, and why.
        nodes: counts of each site, over the whole run.
        folder: the run folder.
        gallery: the newest picture.
        updated: unix time.
    """

    state: State = "starting"
    reason: str | None = None
    task: str | None = None
    round: int = 0
    num_rounds: int = 0
    asked: tuple[str, ...] = ()
    replied: tuple[str, ...] = ()
    described: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    failed: dict[str, str | None] = field(default_factory=dict)
    nodes: dict[str, SiteCounts] = field(default_factory=dict)
    folder: str | None = None
    gallery: str | None = None
    updated: float | None = None
    reasons: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()


def round_moment(line: RoundLine) -> str:
    """Return the round of a line and the time of its end, as text."""
    return time_label(f"round {line.round} of {line.task}", line.ended)


def round_summary(line: RoundLine) -> str:
    """Return who contributed to a round and its losses, as text."""
    named = (("training", line.train_loss), ("validation", line.validation_loss), ("EMA", line.validation_loss_ema))
    losses = [f"{name} {loss:.4f}" for name, loss in named if loss is not None]
    losses += [f"Fréchet distance of drawn images ({name}) {distance:.3g}" for name, distance in line.drawn.items()]
    given = sum(node.outcome == "contributed" for node in line.nodes.values())
    text = f"{line.task} round {line.round}/{line.num_rounds}: {given} of {len(line.asked)} nodes contributed; loss "
    return text + (", ".join(losses) or "not measured") + (f" FAILED: {line.reason}" if line.reason else "")


def time_label(what: str, seconds: float | None) -> str:
    """Return an event and its local time as text; `seconds`: unix time, None if unknown."""
    if seconds is None:
        return what
    return f"{what}, {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seconds))}"


def read_json(kind: type[T], path: Path, advice: str) -> T | None:
    """Return a document from its JSON file; None if there is none.

    Args:
        kind: of the document.
        path: of the file.
        advice: what to do, or what is lost, if the file is damaged.

    Raises:
        RunFolderError: the file is damaged, or cannot be read.
    """
    try:
        found = from_json(kind, path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror}.") from error
    if found is None:
        raise RunFolderError(f"{path} is damaged{advice}")
    return found
