"""Chooses the head that ships, from the sums of held-out images."""

from collections.abc import Mapping
from dataclasses import dataclass

from fl_app.metrics.additive import Statistics
from fl_app.metrics.classification import figures
from fl_app.metrics.paired import Difference, difference


@dataclass(frozen=True)
class Choice:
    """A head, and why it was chosen.

    Attributes:
        head: its name.
        why: for a person, with the difference and its interval.
        differences: of each other head from `linear`; None if the figure is not defined.
    """

    head: str
    why: str
    differences: dict[str, Difference | None]


def choose_head(sums: Mapping[str, Statistics], by: str, confidence: float) -> Choice:
    """Return the best head of those that beat `linear` beyond the paired interval; `linear` if there is none.

    If `linear` is no better than always naming one class, any head that is better than it replaces it.

    Args:
        sums: of the same images, by head, with those that `paired.difference` reads; `linear` among them. Equal figures
            are told apart by the AUC, then by this order.
        by: accuracy, balanced-accuracy or auc.
        confidence: of the interval, from 0 to below 1.
    """
    found = {head: figures(statistics) for head, statistics in sums.items()}
    linear = found["linear"]
    if linear["n"] == 0:
        return Choice("linear", "no held-out image was measured", {})
    is_guess = (linear[by] or 0.0) <= _guess(linear["support"], by)
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
    winners = [head for head, one in measured.items() if min(one.low, one.value) > 0]
    if not winners:
        best = max(measured, key=rank)
        why = f"linear has {reached}, and no head is better beyond the interval: the best, {best}, differs by "
        return Choice("linear", why + _text(measured[best], level), differences)
    head = max(winners, key=rank)  # the first of equals
    why = f"better than linear, which has {reached}{', no more than a guess' if is_guess else ''}: by "
    return Choice(head, why + _text(measured[head], level), differences)


def _guess(support: list[int], by: str) -> float:
    """Return what always naming the most frequent class reaches."""
    if by == "auc":
        return 0.5
    return max(support) / sum(support) if by == "accuracy" else 1.0 / sum(n > 0 for n in support)


def _text(one: Difference, level: float) -> str:
    interval = f" ({100.0 * level:g} % interval {one.low:+.3f} to {one.high:+.3f})" if level > 0 else ""
    return f"{one.value:+.3f}{interval}"
