"""Chooses the head that ships, by the sums of held-out images, so that no single site decides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fl_app.metrics.classification import figures
from fl_app.metrics.paired import Difference, difference
from fl_app.sums import FEWEST_SITES, Sums, without

_LINEAR = "linear"


@dataclass(frozen=True)
class Choice:
    """A head, and why it was chosen.

    Attributes:
        head: its name.
        why: a sentence for people, with the difference and its interval.
        differences: of each other head from `linear`; None if the figure is not defined.
    """

    head: str
    why: str
    differences: dict[str, Difference | None]


@dataclass(frozen=True)
class _Lead:
    """By how much a head's figure exceeds another one's.

    Attributes:
        whole: over all sites.
        unopposed: without the site most against it.
        middle: without that one and the site most for it.
        is_partial: the middle lacks a class that all sites together have.
    """

    whole: Difference
    unopposed: Difference
    middle: Difference
    is_partial: bool = False


def choose_head(
    sums: Mapping[str, Sums],
    by: str,
    confidence: float,
    sites: Mapping[str, Mapping[str, Sums]] | None = None,
) -> Choice:
    """Return the best head that is better than `linear`, whatever any one site says; `linear` if there is none.

    A head is better if its lead over `linear` lies above 0 beyond the paired interval, over all sites or without the
    site most against it; and if there is still a lead without this site and the one most for it. If some class is held
    out by these two alone, the other sites cannot judge it: then it is enough that their lead does not lie below 0
    beyond the interval. If fewer than three sites can be left out, all images decide. If `linear` is no better than
    always naming the most frequent class, any lead is enough.

    Args:
        sums: by head, `linear` included, all of the same images and as `paired.difference` reads them. Of heads with
            equal figures, the one with the larger AUC wins, then the first one.
        by: accuracy, balanced-accuracy or auc.
        confidence: of the interval, from 0 to below 1.
        sites: the same sums of each site that measured an image; None: not known.
    """
    found = {head: figures(own) for head, own in sums.items()}
    linear = found[_LINEAR]
    if linear["n"] == 0:
        return Choice(_LINEAR, "no held-out image was measured", {})
    is_guess = (linear[by] or 0.0) <= guess(linear["support"], by)
    others = [head for head in sums if head != _LINEAR]
    leads = {head: _lead(sums, sites or {}, head, _LINEAR, by, confidence) for head in others}
    differences = {head: lead.whole if lead else None for head, lead in leads.items()}
    measured = {head: lead for head, lead in leads.items() if lead is not None}
    if not measured:
        reason = f"{by} is not defined on the held-out images" if others else "no other head is defined"
        return Choice(_LINEAR, reason, differences)

    def rank(head: str) -> tuple[bool, float, float]:
        lead = measured[head]
        is_unopposed = _is_better(lead.whole, is_guess) or not _is_better(lead.unopposed, is_guess)
        return is_unopposed, (lead.whole if is_unopposed else lead.unopposed).value, found[head]["auc"] or 0.0

    ranked = sorted(measured, key=rank, reverse=True)  # the first of equals
    ahead = [head for head in ranked if _is_ahead(measured[head], is_guess)]
    winners = [head for head in ahead if _holds(measured[head])]
    reached = f"{by} {linear[by]:.3f} on {linear['n']} held-out images"
    if winners:
        head = _preferred(winners, measured, sums, sites or {}, by)
        lead = measured[head]
        why = f"better than linear, which has {reached}{', no more than a guess' if is_guess else ''}: by "
        why += _text(lead.whole, confidence)
        if not _is_better(lead.whole, is_guess):
            why += f", and without the site most against it by {_text(lead.unopposed, confidence)}"
    elif ahead:
        head, lead = _LINEAR, measured[ahead[0]]
        why = f"linear has {reached}, and the lead of {ahead[0]}, {_text(lead.whole, confidence)}, rests on one site: "
        why += f"without the site most for it and the one most against it, it is {_text(lead.middle, confidence)}"
    else:
        head, lead = _LINEAR, measured[ranked[0]]
        why = f"linear has {reached}, and no head is better beyond the interval: the best, {ranked[0]}, differs by "
        why += _text(lead.whole, confidence)
    return Choice(head, why, differences)


def guess(support: list[int], by: str) -> float:
    """Return the figure reached by always naming the most frequent class."""
    if by == "auc":
        return 0.5
    return max(support) / sum(support) if by == "accuracy" else 1.0 / sum(n > 0 for n in support)


def _lead(
    sums: Mapping[str, Sums], sites: Mapping[str, Mapping[str, Sums]], head: str, other: str, by: str, level: float
) -> _Lead | None:
    """Return a head's lead over another one; None if it is not defined."""

    def pair(*absent: str) -> tuple[Sums, Sums]:
        found = sums[head], sums[other]
        for site in absent:
            found = without(found[0], sites[site][head]), without(found[1], sites[site][other])
        return found

    whole = difference(*pair(), by, level)
    if whole is None:
        return None
    rest = {site: one.value for site in sites if (one := difference(*pair(site), by, 0.0)) is not None}
    if len(rest) < FEWEST_SITES:
        return _Lead(whole, whole, whole)
    opponent, supporter = max(rest, key=lambda site: rest[site]), min(rest, key=lambda site: rest[site])
    unopposed, middle = (difference(*pair(*absent), by, level) for absent in ((opponent,), (opponent, supporter)))
    unopposed = unopposed or whole
    has_class = [one["confusion"].any(axis=1) for one in (sums[other], pair(opponent, supporter)[1])]
    return _Lead(whole, unopposed, middle or unopposed, bool((has_class[0] > has_class[1]).any()))


def _preferred(
    winners: Sequence[str],
    leads: Mapping[str, _Lead],
    sums: Mapping[str, Sums],
    sites: Mapping[str, Mapping[str, Sums]],
    by: str,
) -> str:
    """Return the first head, or a later one that leads it clearly without the site most against this.

    Clearly means by more than half the interval of the first one's lead over `linear`.
    """
    best = winners[0]
    for head in winners[1:]:
        lead, interval = _lead(sums, sites, head, best, by, 0.0), leads[best].unopposed
        if lead is not None and lead.unopposed.value > interval.high - interval.value:
            best = head
    return best


def _is_ahead(lead: _Lead, is_any_enough: bool) -> bool:
    """Return whether a head leads over all sites, or without the site most against it."""
    return _is_better(lead.whole, is_any_enough) or _is_better(lead.unopposed, is_any_enough)


def _holds(lead: _Lead) -> bool:
    """Return whether a lead is there without the site most for it, too."""
    return lead.middle.value > 0 or (lead.is_partial and lead.middle.high > 0)


def _is_better(one: Difference, is_any_enough: bool) -> bool:
    return one.value > 0 and (is_any_enough or one.low > 0)


def _text(one: Difference, level: float) -> str:
    interval = f" ({100.0 * level:g} % interval {one.low:+.3f} to {one.high:+.3f})" if level > 0 else ""
    return f"{one.value:+.3f}{interval}"
