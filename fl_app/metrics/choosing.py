"""Chooses the head that ships, by the sums of held-out images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fl_app.metrics.classification import figures
from fl_app.metrics.paired import Difference, difference
from fl_app.sums import FEWEST_SITES, Sums, without


@dataclass(frozen=True)
class Choice:
    """A head, and why it was chosen.

    Attributes:
        head: its name.
        why: a sentence for people, with the difference and its interval.
        differences: of each other head from `linear`; None if the figure is not defined.
        unvoted: the head that all sites' images choose without a vote.
    """

    head: str
    why: str
    differences: dict[str, Difference | None]
    unvoted: str = "linear"


def choose_head(
    sums: Mapping[str, Sums],
    by: str,
    confidence: float,
    sites: Mapping[str, Mapping[str, Sums]] | None = None,
) -> Choice:
    """Return the best head whose paired interval shows it better than `linear`; `linear` if there is none.

    If `linear` is no better than always naming the most frequent class, any better head replaces it. If a single site
    contradicts all others together beyond the interval, the sites vote, one vote each.

    Args:
        sums: by head, `linear` included, all of the same images and as `paired.difference` reads them. Of heads with
            equal figures, the one with the larger AUC wins, then the first one.
        by: accuracy, balanced-accuracy or auc.
        confidence: of the interval, from 0 to below 1.
        sites: the same sums of each site that measured an image; None: not known.
    """
    found = {head: figures(own) for head, own in sums.items()}
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
    """The differences of each site's own sums, and those of all other sites together."""

    def __init__(
        self, sums: Mapping[str, Sums], sites: Mapping[str, Mapping[str, Sums]], by: str, level: float
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
        """Return whether a head beats `linear`; `whole`: its difference over all sites."""
        alone, rest = (_is_better, _is_worse) if _is_better(whole) else (_is_worse, _is_better)
        if not any(alone(own[head]) and rest(self._others[site][head]) for site, own in self._own.items()):
            return _is_better(whole)
        found_better, found_worse = self._votes(head)
        return found_better >= 2 and found_better > found_worse

    def prefer(self, ranked: Sequence[str]) -> str:
        """Return the first head, or a later one if a single site finds it worse and most other sites do not."""
        best = ranked[0]
        for head in ranked[1:]:
            for site, own in self._own.items():
                own_best, own_head = own[best], own[head]
                rest_best, rest_head = self._others[site][best], self._others[site][head]
                if own_best is None or own_head is None or rest_best is None or rest_head is None:
                    continue
                is_site_sure = own_best.low > own_head.high and own_best.value > own_head.value
                found_better, found_worse = self._votes(head, best, site)
                if is_site_sure and rest_head.value > rest_best.high and found_better >= found_worse:
                    best = head
                    break
        return best

    def _votes(self, head: str, other: str | None = None, absent: str = "") -> tuple[int, int]:
        """Count the sites, except `absent`, that find a head better, and worse, than another one (None: `linear`)."""
        leads = []
        for site, own in self._own.items():
            one, beside = own[head], own[other] if other else Difference(0.0, 0.0, 0.0)
            if site != absent and one is not None and beside is not None:
                leads.append(one.value - beside.value)
        return sum(lead > 0 for lead in leads), sum(lead < 0 for lead in leads)


def _is_better(one: Difference | None) -> bool:
    return one is not None and min(one.low, one.value) > 0


def _is_worse(one: Difference | None) -> bool:
    return one is not None and max(one.high, one.value) < 0


def guess(support: list[int], by: str) -> float:
    """Return the figure reached by always naming the most frequent class."""
    if by == "auc":
        return 0.5
    return max(support) / sum(support) if by == "accuracy" else 1.0 / sum(n > 0 for n in support)


def _text(one: Difference, level: float) -> str:
    interval = f" ({100.0 * level:g} % interval {one.low:+.3f} to {one.high:+.3f})" if level > 0 else ""
    return f"{one.value:+.3f}{interval}"
