"""Chooses the head that ships, from the sums of held-out images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fl_app.metrics.classification import figures
from fl_app.metrics.paired import Difference, difference
from fl_app.metrics.voting import FEWEST_SITES
from fl_app.sums import Statistics, without


@dataclass(frozen=True)
class Choice:
    """A head, and why it was chosen.

    Attributes:
        head: its name.
        why: for a person, with the difference and its interval.
        differences: of each other head from `linear`; None if the figure is not defined.
        unvoted: the head that the images of all sites choose, if no decision is put to the vote.
    """

    head: str
    why: str
    differences: dict[str, Difference | None]
    unvoted: str = "linear"


def choose_head(
    sums: Mapping[str, Statistics],
    by: str,
    confidence: float,
    sites: Mapping[str, Mapping[str, Statistics]] | None = None,
) -> Choice:
    """Return the best head of those that beat `linear` beyond the paired interval; `linear` if there is none.

    If `linear` is no better than always naming one class, any head that is better than it replaces it. If one site
    alone contradicts all others together beyond the interval, it is put to the vote, one vote a site.

    Args:
        sums: of the same images, by head, with those that `paired.difference` reads; `linear` among them. Equal figures
            are told apart by the AUC, then by this order.
        by: accuracy, balanced-accuracy or auc.
        confidence: of the interval, from 0 to below 1.
        sites: by site, the same of each site that measured an image; None: not known.
    """
    found = {head: figures(statistics) for head, statistics in sums.items()}
    linear = found["linear"]
    if linear["n"] == 0:
        return Choice("linear", "no held-out image was measured", {})
    is_guess = (linear[by] or 0.0) <= guess(linear["support"], by)
    level = 0.0 if is_guess else confidence
    others = [head for head in sums if head != "linear"]
    differences = {head: difference(sums[head], sums["linear"], by, level) for head in others}
    measured = {head: one for head, one in differences.items() if one is not None}
    if not measured:
        reason = f"{by} is not defined on the held-out images" if others else "no other head is defined"
        return Choice("linear", reason, differences)

    def rank(head: str) -> tuple[float, float]:
        return measured[head].value, found[head]["auc"] or 0.0

    reached = f"{by} {linear[by]:.3f} on {linear['n']} held-out images"
    ballot = _Ballot(sums, sites or {}, by, level)
    winners = [head for head, one in measured.items() if ballot.wins(head, one)]
    unvoted = max((head for head, one in measured.items() if _is_better(one)), key=rank, default="linear")
    if not winners:
        best = max(measured, key=rank)
        why = f"linear has {reached}, and no head is better beyond the interval: the best, {best}, differs by "
        if _is_better(measured[best]):
            why = f"linear has {reached}, and most sites do not find a better head: one site alone does, {best} by "
        return Choice("linear", why + _text(measured[best], level), differences, unvoted)
    head = ballot.prefer(sorted(winners, key=rank, reverse=True))  # the first of equals
    why = f"better than linear, which has {reached}{', no more than a guess' if is_guess else ''}: by "
    if not _is_better(measured[head]):
        why = f"better than linear, which has {reached}, at most sites and without the one that differs; with it by "
    return Choice(head, why + _text(measured[head], level), differences, unvoted)


class _Ballot:
    """What the sites say by themselves, and what all but one say together."""

    def __init__(
        self, sums: Mapping[str, Statistics], sites: Mapping[str, Mapping[str, Statistics]], by: str, level: float
    ) -> None:
        self._own: dict[str, dict[str, Difference | None]] = {}
        self._others: dict[str, dict[str, Difference | None]] = {}
        if len(sites) < FEWEST_SITES:
            return
        others = [head for head in sums if head != "linear"]
        for site, parts in sites.items():
            rest = {head: without(sums[head], parts[head]) for head in sums}
            for found, heads in ((self._own, parts), (self._others, rest)):
                found[site] = {head: difference(heads[head], heads["linear"], by, level) for head in others}

    def wins(self, head: str, whole: Difference) -> bool:
        """Tell whether a head beats `linear`: `whole` is its difference over all sites."""
        if _is_better(whole):
            hinges = any(
                _is_better(own[head]) and _is_worse(self._others[site][head]) for site, own in self._own.items()
            )
        else:
            hinges = any(
                _is_worse(own[head]) and _is_better(self._others[site][head]) for site, own in self._own.items()
            )
        if not hinges:
            return _is_better(whole)
        found_better, found_worse = self._votes(head)
        return found_better >= 2 and found_better > found_worse

    def prefer(self, ranked: Sequence[str]) -> str:
        """Return the first head, or a later one that a single site holds for worse, and not most of the others."""
        best = ranked[0]
        for head in ranked[1:]:
            for site in self._own:
                found_better, found_worse = self._votes(head, best, site)
                if self._is_alone(site, best, head) and found_better >= found_worse:
                    best = head
                    break
        return best

    def _is_alone(self, site: str, best: str, head: str) -> bool:
        """Tell whether a site finds `best` better, and all others together `head`, beyond the interval of `best`."""
        own, rest = self._own[site], self._others[site]
        one, other = rest[head], rest[best]
        return _is_beyond(own[best], own[head]) and one is not None and other is not None and one.value > other.high

    def _votes(self, head: str, other: str | None = None, absent: str = "") -> tuple[int, int]:
        """Count the sites that find a head better, and worse, than another one (None: `linear`); one has no vote."""
        leads = [_lead(own, head, other) for site, own in self._own.items() if site != absent]
        return sum(lead > 0 for lead in leads), sum(lead < 0 for lead in leads)


def _lead(found: Mapping[str, Difference | None], head: str, other: str | None) -> float:
    """Return by how much a head is better than another one, None: than `linear`; 0 if it is not defined."""
    one, beside = found[head], found[other] if other else Difference(0.0, 0.0, 0.0)
    return one.value - beside.value if one is not None and beside is not None else 0.0


def _is_better(one: Difference | None) -> bool:
    return one is not None and min(one.low, one.value) > 0


def _is_worse(one: Difference | None) -> bool:
    return one is not None and max(one.high, one.value) < 0


def _is_beyond(one: Difference | None, other: Difference | None) -> bool:
    return one is not None and other is not None and one.low > other.high and one.value > other.value


def guess(support: list[int], by: str) -> float:
    """Return what always naming the most frequent class reaches."""
    if by == "auc":
        return 0.5
    return max(support) / sum(support) if by == "accuracy" else 1.0 / sum(n > 0 for n in support)


def _text(one: Difference, level: float) -> str:
    interval = f" ({100.0 * level:g} % interval {one.low:+.3f} to {one.high:+.3f})" if level > 0 else ""
    return f"{one.value:+.3f}{interval}"
