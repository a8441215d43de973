"""The files of a run as typed values, shared by whoever writes and reads them: a round, the status, an exchange."""

from dataclasses import field, replace
from typing import Literal

from pydantic.dataclasses import dataclass

from fl_app.classification.selection import HeadRow, Shipped
from fl_app.files import KEBAB
from fl_app.strategies.outcomes import NodeOutcome

State = Literal["starting", "waiting", "running", "finishing", "completed", "degraded", "failed"]

FAULTS = ("refused", "failed", "late", "absent")
_KEPT_REASONS = 5


@dataclass(frozen=True, config=KEBAB)
class RoundLine:
    """A line of metrics.jsonl; None is what was not measured.

    Attributes:
        outcome: `ok`, or `failed` with a reason.
        train_loss: mean over the images of all sites.
        median_train_loss: median of the sites' means.
        validated_round: the round after which the weights were measured, 0 for the initial ones.
        validation_loss: of these weights on held-out images; the next two of their averages.
        figures: of the task, of these weights.
        images: that the sites trained on, each epoch counted.
        started: unix time; `ended`, too.
        nodes: outcome of each site.
    """

    task: str
    round: int
    num_rounds: int
    outcome: Literal["ok", "failed"]
    reason: str | None
    train_loss: float | None
    median_train_loss: float | None
    validated_round: int
    validation_loss: float | None
    validation_loss_ema: float | None
    validation_loss_node_ema: float | None
    figures: dict[str, float | None]
    images: int
    started: float
    ended: float
    seconds: float
    images_per_second: float | None
    bytes_down: int
    bytes_up: int
    asked: list[str]
    nodes: dict[str, NodeOutcome]


@dataclass(frozen=True, config=KEBAB)
class SiteCounts:
    """How often a site did what; `reasons`: the first one and the last few."""

    contributed: int = 0
    empty: int = 0
    refused: int = 0
    failed: int = 0
    late: int = 0
    absent: int = 0
    reasons: tuple[str, ...] = ()

    def faults(self) -> dict[str, int]:
        """Return how often it did not contribute, by kind; only those that happened."""
        return {fault: count for fault in FAULTS if (count := getattr(self, fault))}

    def with_outcome(self, node: NodeOutcome, when: str) -> "SiteCounts":
        """Return the counts with one more outcome; `when`: what it is an outcome of."""
        reasons = self.reasons
        if node.reason and node.outcome in FAULTS:
            reasons = (*reasons, f"{when}: {node.reason}")
            reasons = reasons[:1] + reasons[1:][1 - _KEPT_REASONS :]
        return replace(self, **{node.outcome: getattr(self, node.outcome) + 1, "reasons": reasons})


@dataclass(frozen=True, config=KEBAB)
class RunStatus:
    """status.json.

    Attributes:
        reason: why the run waits, failed, or is degraded.
        round: of the task that is trained.
        asked: sites that were asked in this round.
        replied: sites that have answered.
        described: while sites are awaited, how many images of each class those hold that have come.
        failed: sites that cannot contribute to this round, and why.
        nodes: counts of each site, over the whole run.
        folder: of the run.
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


@dataclass(frozen=True, config=KEBAB)
class ExchangeDocument:
    """`<pass>/prototypes/round-<number>.json`: what an exchange of prototypes came to.

    Attributes:
        contributed: sites whose moments are in the prototypes that ship.
        left_out: outcome of the others.
        withheld: by class, how many sites kept it to themselves, having too few images of it.
        images: that the prototypes are made of.
        bytes: that travelled: `moments-down`, `moments-up`, `heads-down`, `heads-up`.
        not_defined: why a head is not defined, by `<reading>/<head>`.
        test_set: whose test images were measured, `common` or `own parts`; None: there are none.
        results: figures of every head on both parts, over all sites.
        sites: the same of each site.
        shipped: the head that ships, and why.
        temperatures: by `<reading>/<head>`.
        abstain_distance: farther than this from every prototype an image gets no answer; None: no limit.
        abstain_picture_distance: the same of pictures.
    """

    task: str
    round: int
    contributed: list[str]
    left_out: dict[str, NodeOutcome]
    withheld: dict[str, int]
    images: int
    bytes: dict[str, int]
    not_defined: dict[str, str]
    test_set: str | None
    results: list[HeadRow]
    sites: dict[str, list[HeadRow]]
    shipped: Shipped
    temperatures: dict[str, float]
    abstain_distance: float | None
    abstain_picture_distance: float | None
