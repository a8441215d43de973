"""Membership inference in figures: from counts of images by score to AUC, interval and verdict.

A model that knows its training images by heart denoises them better than other images of the same kind. So each image
gets scores, small if the model knows it well, and a node counts its training images, its held-out and its test images
by score. The AUC of a score is the chance that a training image has a smaller one than a held-out image: 0.5 if the
model treats both alike, 1 if it knows all its training images.
"""

import bisect
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fl_app.metrics.audited import Membership, ScoreFigures, SiteFigures, Verdict
from fl_app.metrics.gate import Alarm, find_alarm
from fl_app.metrics.intervals import Interval, within_auc_interval
from fl_app.metrics.tpr import tpr_interval, tpr_of
from fl_app.sums import FEWEST_SITES, Sums, add, are_counts

Array = NDArray[np.float64]

SCORES = ("loss", "sima")
TRAIN, HELD_OUT, TEST = PARTS = ("train", "validation", "test")
# Equally long in the logarithm: one is 11 % wide. The finer they are, the more images can be told not to be among the
# counted ones, since their bins are empty (docs/results.md).
NUM_BINS = 128
LOWEST, HIGHEST = 1e-5, 10.0
_MANY = 10**6  # images


def bin_of(scores: Array) -> NDArray[np.int64]:
    """Return the bin of each score; one outside the range, or not a number, goes to the first or the last bin."""
    position = np.log(np.clip(np.nan_to_num(scores, nan=HIGHEST), LOWEST, HIGHEST) / LOWEST) / np.log(HIGHEST / LOWEST)
    found: NDArray[np.int64] = np.minimum((position * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    return found


def histogram(scores: Array) -> Array:
    """Count scores by bin: [NUM_BINS]."""
    return np.bincount(bin_of(scores), minlength=NUM_BINS).astype(np.float64)


def blank_histograms() -> dict[str, Array]:
    """Return the counts of zero images: `<score>/<part>`, [NUM_BINS] each."""
    return {f"{score}/{part}": np.zeros(NUM_BINS) for score in SCORES for part in PARTS}


def histogram_fault(sums: Sums, described: Mapping[str, int] | None, most: int) -> str | None:
    """Return what is wrong with a site's counts; None if its images could have produced them.

    Args:
        sums: with the keys and shapes of `blank_histograms`.
        described: number of images of each part, as the site described them; None: unknown.
        most: images of a part that a node scores.
    """
    if not all(are_counts(value) for value in sums.values()):
        return "its counts of images by score are not whole numbers of at least 0"
    for part in PARTS:
        counted = {float(sums[f"{score}/{part}"].sum()) for score in SCORES}
        if len(counted) > 1:
            return f"it counted different numbers of images of the part '{part}' by each score"
        expected = None if described is None else min(described[part], most)
        if expected is not None and counted != {float(expected)}:
            return f"it scored {counted.pop():g} images of the part '{part}', and {expected} were expected"
        if max(counted) > most:
            return f"it scored more images of the part '{part}' than were asked for"
    return None


def auc_of(low: Array, high: Array) -> float | None:
    """Return the chance that an image of `low` is in a lower bin than one of `high`, half of it in the same bin.

    Args:
        low: [NUM_BINS] counts.
        high: [NUM_BINS] counts.

    Returns:
        None if one of them has no image.
    """
    pairs = low.sum() * high.sum()
    below = np.cumsum(low) - 0.5 * low
    return float(below @ high / pairs) if pairs > 0 else None


def within_auc(parts: Sequence[Sums], score: str, low: str, high: str) -> tuple[float | None, Interval | None]:
    """Return the mean of the sites' AUCs, weighted by m n / (m + n), and its interval; None if none is defined.

    Images of two sites are never compared: sites may differ in how hard their images are, and in the share that they
    hold out, and both together would look like memory.
    """
    auc, sizes = _mean_auc(parts, score, low, high)
    return (None, None) if auc is None else (auc, within_auc_interval(auc, sizes))


def _mean_auc(
    parts: Sequence[Sums], score: str, low: str = TRAIN, high: str = HELD_OUT
) -> tuple[float | None, list[tuple[float, float]]]:
    """Return the mean of the sites' AUCs, None if none is defined, and the sites' m and n."""
    pairs = [(sums[f"{score}/{low}"], sums[f"{score}/{high}"]) for sums in parts]
    sizes = [(float(a.sum()), float(b.sum())) for a, b in pairs]
    aucs = [auc_of(a, b) for a, b in pairs]
    found = [(auc, m * n / (m + n)) for auc, (m, n) in zip(aucs, sizes, strict=True) if auc is not None]
    auc = float(np.average([one for one, _ in found], weights=[weight for _, weight in found])) if found else None
    return auc, sizes


def judge_membership(parts: Mapping[str, Sums], limit: float) -> Membership:
    """Return figures and verdict of an audit.

    `exceeded`: the lower end of some score's interval is above the limit, over all sites, over all but one, or of one
    site by itself at a level that allows for the number of sites. `passed`: the upper ends of all are below it over all
    sites, the AUCs of the others are without any one of three sites or more, and no site's own interval is above it.
    `undecided`: the rest.

    Args:
        parts: counts of each site.
        limit: of the AUC.
    """
    added = add([blank_histograms(), *parts.values()])
    numbers = {part: int(added[f"{SCORES[0]}/{part}"].sum()) for part in PARTS}
    scores = {score: _figures(parts, added, score) for score in SCORES}
    verdict, reason = _verdict(parts, scores, limit)
    return Membership(
        verdict=verdict,
        reason=reason,
        scores=scores,
        sites={site: _of_site(sums) for site, sums in sorted(parts.items())},
        num_train=numbers[TRAIN],
        num_held_out=numbers[HELD_OUT],
        num_test=numbers[TEST],
    )


def fewest_held_out(num_train: int, limit: float) -> int | None:
    """Return how many held-out images a site needs for `passed`, if it has so many training images and an AUC of 0.5.

    Returns:
        None if no number is enough.
    """

    def is_enough(number: int) -> bool:
        interval = within_auc_interval(0.5, [(float(num_train), float(number))])
        return interval is not None and interval[1] < limit

    found = bisect.bisect_left(range(_MANY), True, key=is_enough)
    return found if found < _MANY else None


def _figures(parts: Mapping[str, Sums], added: Sums, score: str) -> ScoreFigures:
    members, controls = added[f"{score}/{TRAIN}"], added[f"{score}/{HELD_OUT}"]
    auc, interval = within_auc(list(parts.values()), score, TRAIN, HELD_OUT)
    control, control_interval = within_auc(list(parts.values()), score, HELD_OUT, TEST)
    return ScoreFigures(
        auc=auc,
        interval=interval,
        pooled_auc=auc_of(members, controls),
        tpr=tpr_of(members, controls),
        tpr_interval=tpr_interval(members, controls),
        control_auc=control,
        control_interval=control_interval,
    )


def _of_site(sums: Sums) -> SiteFigures:
    train, held_out, test = (int(sums[f"{SCORES[0]}/{part}"].sum()) for part in PARTS)
    auc = {score: auc_of(sums[f"{score}/{TRAIN}"], sums[f"{score}/{HELD_OUT}"]) for score in SCORES}
    return SiteFigures(train=train, held_out=held_out, test=test, auc=auc)


def _is_above(parts: Sequence[Sums], limit: float, level: float = 0.95) -> bool:
    """Tell whether the lower end of some score's interval over some sites is above the limit."""
    for score in SCORES:
        auc, sizes = _mean_auc(parts, score)
        if auc is None or auc <= limit:  # an interval takes a hundred times as long
            continue
        interval = within_auc_interval(auc, sizes, level)
        if interval is not None and interval[0] > limit:
            return True
    return False


def _verdict(parts: Mapping[str, Sums], scores: Mapping[str, ScoreFigures], limit: float) -> tuple[Verdict, str]:
    """Return the verdict and its reason."""
    judging = {site: sums for site, sums in parts.items() if _mean_auc([sums], SCORES[0])[0] is not None}
    if not judging:
        return "undecided", "no site has both training and held-out images to compare"
    alarm = find_alarm(
        list(judging),
        lambda sites: _is_above([judging[site] for site in sites], limit),
        lambda site, number: _is_above([judging[site]], limit, 1.0 - 0.05 / number),
    )
    if alarm is not None:
        return "exceeded", _alarming(alarm, judging, limit)
    said = _said(list(judging.values()))
    if not all(one.interval and one.interval[1] < limit for one in scores.values()):
        return "undecided", f"too few images to decide: {said}, the limit is {limit:g}. {_needed(judging, limit)}"
    site = _hinge(judging, limit)
    if site is not None:
        return "undecided", f"{said}, the limit is {limit:g}, but without {site} alone it would be on its other side"
    known = sorted(site for site, sums in judging.items() if _is_above([sums], limit))
    reason = f"{said}, below the limit of {limit:g}"
    return ("undecided", f"{reason}, but above it at {', '.join(known)} alone") if known else ("passed", reason)


def _said(parts: Sequence[Sums]) -> str:
    found = ((score, *within_auc(parts, score, TRAIN, HELD_OUT)) for score in SCORES)
    return "; ".join(
        f"AUC {auc:.3f} ({interval[0]:.3f} to {interval[1]:.3f}) by {score}"
        for score, auc, interval in found
        if auc is not None and interval is not None
    )


def _alarming(alarm: Alarm, parts: Mapping[str, Sums], limit: float) -> str:
    """Say which figures are above the limit, and on which sites that rests."""
    known, said = "the model knows its training images", _said(list(parts.values()))
    if alarm.is_of_all:
        return f"{known}: {said}, above the limit of {limit:g}{alarm.doubt('knows')}"
    if alarm.is_of_one:
        seen = "; ".join(f"at {site} alone: {_said([parts[site]])}" for site in alarm.alone)
    else:
        site = alarm.hidden_by[0]
        seen = f"without {site}: {_said([sums for name, sums in parts.items() if name != site])}"
    return f"{known}, {seen}, above the limit of {limit:g} (over all sites {said}){alarm.doubt('knows')}"


def _hinge(parts: Mapping[str, Sums], limit: float) -> str | None:
    """Return a site without which some AUC of the others is not below the limit; None if there is none."""
    if len(parts) < FEWEST_SITES:
        return None
    for site in sorted(parts):
        rest = [sums for name, sums in parts.items() if name != site]
        aucs = [auc for score in SCORES if (auc := _mean_auc(rest, score)[0]) is not None]
        if not all(auc < limit for auc in aucs):
            return site
    return None


def _needed(parts: Mapping[str, Sums], limit: float) -> str:
    """Say how many held-out images would be enough, if the model treats all images alike."""
    train = sum(int(sums[f"{SCORES[0]}/{TRAIN}"].sum()) for sums in parts.values())
    held_out = sum(int(sums[f"{SCORES[0]}/{HELD_OUT}"].sum()) for sums in parts.values())
    fewest = fewest_held_out(train, limit)
    if fewest is None:
        return f"With {train} training images no number of held-out images is enough"
    if held_out >= fewest:
        return f"{held_out} held-out images were compared; more are needed, since the AUC is near the limit"
    return f"{held_out} held-out images were compared; at least {fewest} are needed, more if the AUC is near the limit"


def shown_histograms(parts: Iterable[Sums]) -> dict[str, list[float]]:
    """Return the counts of images by score, over all sites, for a picture.

    Returns:
        `edges`, logarithms to base 10 of the scores at the ends of the bins; and `<score>/<part>`, the counts of bins.
        Bins below and above all scores are left out. Empty if nothing was counted.
    """
    total = add(parts)
    filled = np.flatnonzero(np.sum(list(total.values()), axis=0))
    if len(filled) == 0:
        return {}
    first, end = int(filled[0]), int(filled[-1]) + 1
    edges = np.linspace(np.log10(LOWEST), np.log10(HIGHEST), NUM_BINS + 1)[first : end + 1]
    return {"edges": edges.tolist(), **{name: counts[first:end].tolist() for name, counts in total.items()}}
