"""What was aimed at before the first run, and whether it was reached: every place of every claim."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from experiments.prototypes.grid import ROUNDS, SEEDS, SOURCES, SPLITS, STRATEGIES
from experiments.prototypes.places import LDA, LINEAR, NEAREST_MEAN, SHIPS, Approach, Figure, Place, Results
from fl_app.grids.estimates import Estimate, estimate

Verdict = Literal["met", "missed", "too few seeds", "no aim"]

_SKEWED = ("dirichlet-0.05", "dirichlet-0.1")
_LOCAL_LINEAR = Approach("local", "linear")


@dataclass(frozen=True)
class Claim:
    """An aim for the mean over seeds of one approach against another.

    Attributes:
        ours: what is claimed to be good.
        theirs: what it is measured against, in the same runs.
        places: where it is claimed.
        aim: least mean difference in percentage points, or least mean ratio; None: none was set.
        is_ratio: ours over theirs, instead of ours minus theirs.
        must_exceed: the mean must lie above the aim, not at it.
        needs_interval: the interval must lie above 0 as well.
        figure: what is compared.
    """

    ours: Approach
    theirs: Approach
    places: tuple[Place, ...]
    aim: float | None
    is_ratio: bool = False
    must_exceed: bool = False
    needs_interval: bool = False
    figure: Figure = "accuracy"


@dataclass(frozen=True)
class Finding:
    """What came of a claim at one place.

    Attributes:
        place: where.
        ours: mean over the seeds, a share; None where no seed has it, as with `theirs`.
        theirs: the same of what it is measured against.
        difference: of pairs, in percentage points, or their ratio.
        verdict: only where all seeds are there.
    """

    place: Place
    ours: float | None
    theirs: float | None
    difference: Estimate
    verdict: Verdict


def places(
    sources: Sequence[str], splits: Sequence[str], rounds: Sequence[int], strategies: Sequence[str] = STRATEGIES
) -> tuple[Place, ...]:
    """Return all places of the part `heads` with these values."""
    return tuple(Place("heads", *one) for one in product(sources, splits, strategies, rounds))


MEDICAL = Place("medical", "breastmnist", "dirichlet-0.5", "FedAvg", ROUNDS[-1])
EVERYWHERE = places(SOURCES, SPLITS, ROUNDS)

CLAIMS = (
    Claim(NEAREST_MEAN, LINEAR, places(SOURCES, _SKEWED, [3]), aim=1.0, needs_interval=True),
    Claim(NEAREST_MEAN, LINEAR, places(["mnist"], _SKEWED, [10]), aim=0.5),
    Claim(LDA, LINEAR, places(["fashion-mnist"], ["dirichlet-0.05"], [10]), aim=4.0),
    Claim(LDA, LINEAR, places(SOURCES, SPLITS, [3, 10]), aim=0.0, must_exceed=True),
    Claim(Approach("local", "nearest-mean"), _LOCAL_LINEAR, places(SOURCES, ["dirichlet-0.1"], ROUNDS), aim=1.0),
    *(
        Claim(Approach("local", head), _LOCAL_LINEAR, places(SOURCES, ["dirichlet-0.1"], ROUNDS), aim=None)
        for head in ("cosine", "lda", "fedcof")
    ),
    Claim(SHIPS, LINEAR, (*EVERYWHERE, MEDICAL._replace(round=3), MEDICAL._replace(round=10), MEDICAL), aim=-0.3),
    Claim(SHIPS, LINEAR._replace(trained="centralised"), (MEDICAL,), aim=0.95, is_ratio=True, figure="auc"),
)


def judge(results: Results, claim: Claim) -> list[Finding]:
    """Compare the two approaches of a claim at each of its places."""
    return [_judge(results, claim, place) for place in claim.places]


def _judge(results: Results, claim: Claim, place: Place) -> Finding:
    pairs = results.pairs(place, claim.ours, claim.theirs, claim.figure)
    if claim.is_ratio:
        found = estimate([ours / theirs for ours, theirs in pairs])
    else:
        found = estimate(results.differences(place, claim.ours, claim.theirs))
    ours, theirs = estimate([pair[0] for pair in pairs]).mean, estimate([pair[1] for pair in pairs]).mean
    return Finding(place, ours, theirs, found, _verdict(claim, found))


def _verdict(claim: Claim, found: Estimate) -> Verdict:
    if claim.aim is None:
        return "no aim"
    if found.mean is None or found.low is None or found.num_seeds < len(SEEDS):
        return "too few seeds"
    is_reached = found.mean > claim.aim if claim.must_exceed else found.mean >= claim.aim
    if claim.needs_interval and found.low <= 0:
        is_reached = False
    return "met" if is_reached else "missed"
