"""The claims as tables: a summary, every place of each, and what it takes to reach an accuracy."""

import math
import statistics
from collections.abc import Iterable, Sequence

from experiments.prototypes.claims import Claim, Finding
from experiments.prototypes.grid import SEEDS
from experiments.prototypes.layout import NOT_DEFINED, ratio, share, signed, table, title, where
from experiments.prototypes.places import LINEAR, Results
from experiments.prototypes.results import Row
from experiments.prototypes.until import THRESHOLD, WITH_PROTOTYPES, Reached, every_round, until


def summary(findings: Sequence[tuple[Claim, list[Finding]]]) -> str:
    """Write how often each claim holds, and its lowest and highest mean."""
    rows = []
    for number, (claim, places) in enumerate(findings, start=1):
        measured = [one for one in places if one.difference.mean is not None]
        ends = [min(measured, key=_mean), max(measured, key=_mean)] if measured else []
        worst, best = [_value(claim, one.difference.mean) for one in ends] or [NOT_DEFINED, NOT_DEFINED]
        count = f"{sum(one.verdict == 'met' for one in places)} of {len(places)}"
        met = "" if claim.aim is None else count
        rows.append([str(number), describe(claim), describe_places(claim), describe_aim(claim), met, worst, best])
    head = ["", "compared", "where", "aim for the mean", "places where it is met", "lowest mean", "highest mean"]
    return "## Claims\n\n" + table(head, rows)


def _mean(finding: Finding) -> float:
    assert finding.difference.mean is not None
    return finding.difference.mean


def _value(claim: Claim, value: float | None) -> str:
    if value is None:
        return NOT_DEFINED
    return f"{value:.3f}" if claim.is_ratio else f"{value:+.2f}"


def claim_table(number: int, claim: Claim, findings: Sequence[Finding]) -> str:
    """Write every place of a claim, whatever came out."""
    measure = "ratio" if claim.is_ratio else "difference"
    head = ["data", "split", "strategy", "R", str(claim.ours), str(claim.theirs), measure, "seeds", "aim"]
    rows = []
    for one in findings:
        shares = [share(value, claim.figure) for value in (one.ours, one.theirs)]
        difference = ratio(one.difference) if claim.is_ratio else signed(one.difference)
        rows.append([*where(one.place), *shares, difference, str(one.difference.num_seeds), one.verdict])
    return f"### {number}. {describe(claim)}: {describe_aim(claim)}\n\n" + table(head, rows)


def until_table(results: Results) -> str:
    """Write when each approach first reached the accuracy: over the seeds, then each one."""
    approaches = (LINEAR, *WITH_PROTOTYPES)
    found = {way: {seed: one for seed in SEEDS if (one := until(results, way, seed))} for way in approaches}
    middle = [[str(way), *_middle(list(by_seed.values()))] for way, by_seed in found.items()]
    rows = [
        [str(seed), str(way), *_reached(found[way][seed]), *_saved(found[way][seed], linear)]
        for seed, linear in found[LINEAR].items()
        for way in approaches
        if seed in found[way]
    ]
    first, last = every_round()[0], every_round()[-1]
    about = (
        f"## Rounds and bytes until {100 * THRESHOLD:g} %\n\n"
        f"{title(first)}, prototypes measured after each of the rounds {first.round} to {last.round}. Bytes are those "
        "of all nodes: the rounds until then and, but for `linear`, one exchange, with all that nodes measure in it. "
        "`>` and `<` are bounds: the accuracy was not reached in these rounds.\n\n"
    )
    about += _sizes(results.rows(last, LINEAR).values())
    over_seeds = table(["head", "seeds that reach it", "median rounds", "median MB"], middle)
    head = ["seed", "head", "rounds", "MB down", "MB up", "MB", "rounds over linear's", "bytes over linear's"]
    return about + over_seeds + "\n" + table(head, rows)


def _sizes(rows: Iterable[Row]) -> str:
    """Say how many bytes a round and an exchange have, of the first run."""
    for row in rows:
        sizes = (row.train_down / row.round, row.train_up / row.round, row.exchange_down, row.exchange_up)
        down, up, exchange_down, exchange_up = (f"{size / 1e6:.2f} MB" for size in sizes)
        return f"A round: {down} down, {up} up. An exchange: {exchange_down} down, {exchange_up} up.\n\n"
    return ""


def _middle(found: Sequence[Reached]) -> list[str]:
    """Return how many seeds reach it, and medians; a median that is a lower bound says so."""
    reached = sum(one.is_reached for one in found)
    if not found:
        return ["0 of 0", NOT_DEFINED, NOT_DEFINED]
    rounds = statistics.median_high(one.round if one.is_reached else math.inf for one in found)
    size = statistics.median_high(one.bytes / 1e6 if one.is_reached else math.inf for one in found)
    if math.isinf(rounds):
        bounds = [f"> {max(one.round for one in found)}", f"> {min(one.bytes for one in found) / 1e6:.1f}"]
        return [f"{reached} of {len(found)}", *bounds]
    return [f"{reached} of {len(found)}", f"{rounds:g}", f"{size:.1f}"]


def _reached(found: Reached) -> list[str]:
    sign = "" if found.is_reached else "> "
    sizes = [f"{sign}{size / 1e6:.1f}" for size in (found.down, found.up, found.bytes)]
    return [f"{sign}{found.round}", *sizes]


def _saved(found: Reached, linear: Reached) -> list[str]:
    """Return the ratios to the linear head; of two bounds nothing follows."""
    if not found.is_reached and not linear.is_reached:
        return [NOT_DEFINED, NOT_DEFINED]
    sign = "" if found.is_reached and linear.is_reached else "< " if found.is_reached else "> "
    return [f"{sign}{found.round / linear.round:.2f}", f"{sign}{found.bytes / linear.bytes:.2f}"]


def describe(claim: Claim) -> str:
    """Say what is compared."""
    how = "over" if claim.is_ratio else "minus"
    return f"{claim.ours} {how} {claim.theirs}" + (f", {claim.figure.upper()}" if claim.figure == "auc" else "")


def describe_places(claim: Claim) -> str:
    """Name the data sets, splits and rounds of a claim."""
    cells = [where(place) for place in claim.places]
    data, splits, _, rounds = (list(dict.fromkeys(column)) for column in zip(*cells, strict=True))
    return f"{', '.join(data)}; {', '.join(splits)}; R {', '.join(rounds)}"


def describe_aim(claim: Claim) -> str:
    """Say what the mean has to reach."""
    if claim.aim is None:
        return "none was set"
    if claim.is_ratio:
        return f"at least {claim.aim:g}"
    how = "above" if claim.must_exceed else "at least"
    return f"{how} {claim.aim:+g} points" + (", interval above 0" if claim.needs_interval else "")
