"""Figures and verdict of the membership audit; imports nothing heavy."""

from dataclasses import field
from typing import Literal

from pydantic.dataclasses import dataclass

from fl_app.files import KEBAB

Interval = tuple[float, float]
Verdict = Literal["passed", "exceeded", "undecided"]


@dataclass(frozen=True, kw_only=True, config=KEBAB)
class ScoreFigures:
    """What one score says, over all sites.

    Attributes:
        auc: mean over the sites of the AUC of training against held-out images of the site, weighted by m n / (m + n);
            None if no site has both.
        interval: of 95 %.
        pooled_auc: from the added counts, which also compares one site's training with another's held-out images.
        tpr: share of training images found at a threshold that 1 % of the held-out images pass, over all sites; None
            below 300 held-out images.
        tpr_interval: of 95 %.
        control_auc: held-out against test images, in place of training against held-out ones: 0.5 if nothing but
            training makes a difference; None if no site has both.
        control_interval: of 95 %.
    """

    auc: float | None = None
    interval: Interval | None = None
    pooled_auc: float | None = None
    tpr: float | None = None
    tpr_interval: Interval | None = None
    control_auc: float | None = None
    control_interval: Interval | None = None


@dataclass(frozen=True, kw_only=True, config=KEBAB)
class SiteFigures:
    """What a site contributed: numbers of scored images, and the AUC of each score; None if it is not defined."""

    train: int
    held_out: int
    test: int
    auc: dict[str, float | None]


@dataclass(frozen=True, kw_only=True, config=KEBAB)
class Membership:
    """The result of an audit.

    Attributes:
        verdict: `passed`, `exceeded` or `undecided`.
        reason: why, a sentence for people.
        scores: figures of each score.
        sites: of each site that answered.
        num_train: scored training images.
        num_held_out: scored held-out images, the controls.
        num_test: scored test images.
    """

    verdict: Verdict
    reason: str
    scores: dict[str, ScoreFigures] = field(default_factory=dict)
    sites: dict[str, SiteFigures] = field(default_factory=dict)
    num_train: int = 0
    num_held_out: int = 0
    num_test: int = 0
