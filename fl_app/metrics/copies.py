"""The verdict on copies: do generated images repeat training images more often than held-out images happen to?"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fl_app.metrics.audited import Copies, CopyFigures, Interval, Share, Verdict
from fl_app.metrics.gate import Alarm, find_alarm
from fl_app.metrics.intervals import wilson
from fl_app.metrics.nearest import DRAWN, FEWEST_TRAIN, MOST_LOG, SPACES, blank_copies, log_choose
from fl_app.sums import ROUNDING, Sums, add, are_counts

Array = NDArray[np.float64]
Table = tuple[float, float, float, float]  # of a site: generated images, copies, held-out images, copies among them

LEVEL = 1e-3  # chance of a false alarm of a set of sites in a space
LIKELY = 0.05  # a smaller chance is no false alarm yet, and no pass
DETECTED = 0.1  # share of copies that must be excluded to pass
_NORMAL = 1.959964
_WORST: tuple[Verdict, ...] = ("exceeded", "undecided", "passed")


def copies_fault(sums: Sums, described: Mapping[str, int] | None, asked: int) -> str | None:
    """Return what is wrong with a site's sums; None if images could have produced them.

    Args:
        sums: with the keys and shapes of `blank_copies`, all finite.
        described: number of `train` and `validation` images, as the site described them; None: unknown.
        asked: images that a node draws.
    """
    drawn, finite = sums[DRAWN]
    expected = None if described is None else asked * (described["train"] > 0)
    if not are_counts(sums[DRAWN]) or drawn not in (0, asked) or (expected is not None and drawn != expected):
        return f"it drew {drawn:g} images to look for copies, and {asked if expected is None else expected} are agreed"
    if finite not in (0, drawn):
        return "it drew more images that are finite than images"
    for space in SPACES:
        counts, ratio, histogram = (sums[f"copies/{space}/{key}"] for key in ("counts", "ratio", "histogram"))
        generated, copies, held_out, repeated = counts
        if not are_counts(counts) or not are_counts(histogram) or copies > generated or repeated > held_out:
            return f"its copies by {space} are no counts, or more than its images"
        if generated not in (0, finite) or (generated == 0 and counts.any()):
            return f"it looked for copies by {space} among {generated:g} images, and drew {finite:g}"
        if described is not None and generated and held_out != described["validation"]:
            return f"it compared {held_out:g} held-out images by {space}, and described {described['validation']}"
        if fault := _ratio_fault(ratio, histogram, generated, held_out):
            return f"{fault} by {space}"
    return None


def _ratio_fault(ratio: Array, histogram: Array, generated: float, held_out: float) -> str | None:
    number, log, log_squares, nearer, nearer_squares, *variances = ratio
    if number not in (0, generated) or histogram.sum() != number or (number > 0 and held_out == 0):
        return "its ratios of distances do not count its generated images"
    near = ROUNDING * max(number, 1.0)
    possible = (
        abs(log) <= number * MOST_LOG + near
        and log**2 <= number * log_squares * (1.0 + ROUNDING) + near
        and log_squares <= number * MOST_LOG**2 + near
        and -near <= nearer_squares <= nearer + near
        and nearer <= number + near
        and nearer**2 <= number * nearer_squares * (1.0 + ROUNDING) + near
        and 0.0 <= variances[0] <= (2.0 * number * MOST_LOG) ** 2 + near
        and 0.0 <= variances[1] <= number**2 + near
    )
    return None if possible else "its ratios of distances are those of no images"


def chance_of(tables: Sequence[Table]) -> float:
    """Return the chance of as many copies or more if generated and held-out images are near copies equally often.

    This is Fisher's exact test, one-sided, stratified by site: sites are never compared with one another, since those
    with many natural copies may hold few images out. Given how many images of a site are copies in all, the generated
    ones among them follow a hypergeometric distribution; the sum over the sites, its convolution.

    Args:
        tables: of each site: generated images, copies among them, held-out images, copies among them.
    """
    whole, seen = np.ones(1), 0.0
    for images, copies, held_out, repeated in tables:
        # no more than the generated images: a site may claim any number of held-out ones
        number = np.arange(min(images, copies + repeated) + 1)
        logs = log_choose(images, number) + log_choose(held_out, copies + repeated - number)
        whole = np.convolve(whole, np.exp(logs - log_choose(images + held_out, copies + repeated)))
        seen += copies
    return float(min(whole[int(seen) :].sum(), 1.0))


def judge_copies(parts: Mapping[str, Sums]) -> Copies:
    """Return figures and verdict of a search for copies.

    `exceeded`: in a space more generated images are near copies than the held-out images' rate explains, at the level
    0.001, over all sites or over all but one; or at one site by itself, at this level over the number of sites and
    spaces. `passed`: in both spaces at most a tenth of what the model draws repeats some site's images beyond the
    held-out images' rate, by the upper end of an interval of 95 %, no excess is likely, with any one site left out
    neither, and no site shows one at the level 0.001. `undecided`: the rest.

    Args:
        parts: sums of each site, with the keys of `blank_copies`.
    """
    spaces = {space: _figures(parts, space) for space in SPACES}
    verdicts = [one.verdict for one in spaces.values()]
    worst = min(verdicts, key=_WORST.index)
    reasons = dict.fromkeys(one.reason for one in spaces.values() if one.verdict == worst)
    said = [f"{one.reason} (by {name})" for name, one in spaces.items() if one.verdict == worst]
    drawn = add([blank_copies(), *parts.values()])[DRAWN]
    return Copies(
        verdict=worst,
        reason=next(iter(reasons)) if len(reasons) == 1 else "; ".join(said),
        spaces=spaces,
        num_drawn=int(drawn[0]),
    )


def _tables(parts: Mapping[str, Sums], space: str) -> dict[str, Table]:
    """Return the counts of each site that has looked for copies."""
    counts = {site: tuple(map(float, sums[f"copies/{space}/counts"])) for site, sums in sorted(parts.items())}
    return {site: (a, b, c, d) for site, (a, b, c, d) in counts.items() if a > 0}


def _figures(parts: Mapping[str, Sums], space: str) -> CopyFigures:
    blank = blank_copies()
    total = add([blank, *parts.values()])
    tables = _tables(parts, space)
    images, copies, held_out, repeated = (int(value) for value in total[f"copies/{space}/counts"])
    verdict, reason = _verdict(tables, _unjudged(total, space), _left_out(parts, tables))
    number, log, log_squares, nearer, nearer_squares, *variances = total[f"copies/{space}/ratio"]
    mean_log, around_log = _mean(number, log, log_squares, variances[0])
    share, around_share = _mean(number, nearer, nearer_squares, variances[1])
    return CopyFigures(
        verdict=verdict,
        reason=reason,
        generated=_share(images, copies),
        held_out=_share(held_out, repeated),
        chance=chance_of(list(tables.values())) if held_out and tables else None,
        ratio=None if mean_log is None else float(np.exp(mean_log)),
        ratio_interval=None if around_log is None else (float(np.exp(around_log[0])), float(np.exp(around_log[1]))),
        nearer=share,
        nearer_interval=None if around_share is None else (max(around_share[0], 0.0), min(around_share[1], 1.0)),
        num_compared=int(number),
        histogram=total[f"copies/{space}/histogram"].tolist(),
        sites={site: [int(one) for one in sums[f"copies/{space}/counts"]] for site, sums in sorted(parts.items())},
    )


def _unjudged(total: Sums, space: str) -> str:
    """Say why no site has looked for copies in a space."""
    drawn, finite = total[DRAWN]
    if drawn > 0 and finite == 0:
        return "not defined: the model drew values that are not finite"
    if drawn > 0 and total[f"copies/{space}/counts"][0] == 0:
        return f"not defined: no site has {FEWEST_TRAIN} training images, or the network's features are not finite"
    return "no site has drawn images to compare"


def _left_out(parts: Mapping[str, Sums], tables: Mapping[str, Table]) -> str:
    """Say which sites drew images and could not look for copies."""
    names = [site for site, sums in sorted(parts.items()) if sums[DRAWN][0] > 0 and site not in tables]
    why = f"fewer than {FEWEST_TRAIN} training images, or features that are not finite"
    return f"; not compared ({why}): {', '.join(names)}" if names else ""


def _verdict(tables: Mapping[str, Table], unjudged: str, left_out: str) -> tuple[Verdict, str]:
    if not tables:
        return "undecided", unjudged
    images, copies, held_out, repeated = (int(value) for value in np.sum(list(tables.values()), axis=0))
    said = f"{copies} of {images} generated images are near copies, and {repeated} of {held_out} held-out images"
    alarm = find_alarm(
        list(tables),
        lambda sites: chance_of([tables[site] for site in sites]) <= LEVEL,
        lambda site, number: chance_of([tables[site]]) <= LEVEL / (number * len(SPACES)),
    )
    if alarm is not None:
        return "exceeded", f"{said}: more than these explain{_seen(alarm)}{left_out}{alarm.doubt('repeats')}"
    suspects = [name for name, one in tables.items() if chance_of([one]) <= LEVEL]
    if suspects:
        found = f"whether that is more than these explain rests on {', '.join(suspects)} alone"
        return "undecided", f"{said}; {found}{left_out}"
    most = most_copied(list(tables.values()))
    if most >= DETECTED:
        remedy = "Raise 'audit.copies-images', or hold out more images"
        return "undecided", f"{said}, so up to {min(most, 1.0):.0%} may be copies beyond these. {remedy}{left_out}"
    without = [[one for other, one in tables.items() if other != site] for site in tables] if len(tables) > 1 else []
    if min(chance_of(some) for some in (list(tables.values()), *without)) <= LIKELY:
        return "undecided", f"{said}: more than expected, but not beyond doubt{left_out}"
    return "passed", f"{said}{left_out}"


def _seen(alarm: Alarm) -> str:
    """Say where an excess is seen, if all sites together do not show it."""
    if alarm.is_of_all:
        return ""
    if alarm.is_of_one:
        return f", at {', '.join(alarm.alone)}"
    return f", without {' or without '.join(alarm.hidden_by)}"


def most_copied(tables: Sequence[Table]) -> float:
    """Return how large a share of what the model draws may repeat some site's images, beyond the held-out images' rate.

    Every site draws of the same model and compares with its own images alone, so the shares of the sites add up. Each
    one's excess is a difference of two shares, with the interval of Newcombe (1998, method 10), at least 0 and at most
    the upper end of its own copies; the sum's upper end is that of Zou and Donner (2008): so a site can only add to it.

    Args:
        tables: of each site: generated images, copies among them, held-out images, copies among them.

    Returns:
        The upper end of the interval of 95 %.
    """
    total, squares = 0.0, 0.0
    for images, copies, held_out, repeated in tables:
        share, most = copies / images, wilson(copies / images, images, 0.95)[1]
        control = repeated / held_out if held_out else 0.0
        fewest = wilson(control, held_out, 0.95)[0] if held_out else 0.0
        excess = max(share - control, 0.0)
        upper = min(share - control + math.hypot(most - share, control - fewest), most)
        total += excess
        squares += max(upper - excess, 0.0) ** 2
    return total + math.sqrt(squares)


def _share(images: int, copies: int) -> Share:
    if images == 0:
        return Share(images=0, copies=0)
    return Share(images=images, copies=copies, share=copies / images, interval=wilson(copies / images, images, 0.95))


def _mean(number: float, total: float, squares: float, variance: float) -> tuple[float | None, Interval | None]:
    """Return a mean over generated images, and its interval of 95 %; `variance`: further one, of the sum."""
    if number < 2:
        return (None, None) if number == 0 else (float(total), None)
    mean = float(total / number)
    own = max(float(squares) - number * mean**2, 0.0) * number / (number - 1.0)
    half = _NORMAL * float(np.sqrt(own + max(float(variance), 0.0))) / number
    return mean, (mean - half, mean + half)
