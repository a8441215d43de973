"""Figures and verdicts of an audit: membership inference, and copies; imports nothing heavy."""

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


@dataclass(frozen=True, kw_only=True, config=KEBAB)
class Share:
    """How many of some images are near copies of training images.

    Attributes:
        images: number of them.
        copies: near copies among them.
        share: copies over images; None without images.
        interval: of 95 %, Wilson's.
    """

    images: int
    copies: int
    share: float | None = None
    interval: Interval | None = None


@dataclass(frozen=True, kw_only=True, config=KEBAB)
class CopyFigures:
    """What a search for copies found in one feature space, over all sites.

    Attributes:
        verdict: `passed`, `exceeded` or `undecided`.
        reason: why, a sentence for people.
        generated: near copies among generated images.
        held_out: near copies among held-out images, which were never trained on: the control.
        chance: of as many copies or more, if both were near copies equally often; None if no site has both.
        ratio: geometric mean of the distance of the nearest of m training images over that of the nearest of the m
            held-out images; 1 is expected if the model knows none of them; None without held-out images.
        ratio_interval: of 95 %.
        nearer: share of generated images whose nearest image is a training image; 0.5 is expected.
        nearer_interval: of 95 %.
        num_compared: generated images in `ratio` and `nearer`.
        histogram: these images by log2 of their ratio, in equal bins from -2 to 2.
        sites: of each site that answered: generated images, copies, held-out images, copies.
    """

    verdict: Verdict
    reason: str
    generated: Share
    held_out: Share
    chance: float | None = None
    ratio: float | None = None
    ratio_interval: Interval | None = None
    nearer: float | None = None
    nearer_interval: Interval | None = None
    num_compared: int = 0
    histogram: list[float] = field(default_factory=list)
    sites: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, config=KEBAB)
class Copies:
    """The result of a search for copies.

    Attributes:
        verdict: the worst one of the spaces: `exceeded`, `undecided`, `passed`.
        reason: why, for people.
        spaces: figures of each feature space, `pixels` and `unet`.
        num_drawn: images that the sites drew.
    """

    verdict: Verdict
    reason: str
    spaces: dict[str, CopyFigures] = field(default_factory=dict)
    num_drawn: int = 0
