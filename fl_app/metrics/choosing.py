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
        differences: of each other head from `linear`; None where the figure is not defined.
    """

    head: str
    why: str
    differences: dict[str, Difference | None]


def choose_head(sums: Mapping[str, Statistics], by: str, confidence: float) -> Choice:
    """Return the best head of those that beat `linear` beyond the paired interval; `linear` if there is none.

    Args:
        sums: of the same images, by head, with those that `paired.difference` reads; `linear` among them. Equal figures
            are told apart by the AUC, then by this order.
        by: accuracy, balanced-accuracy or auc.
        confidence: of the interval, from 0 to below 1.
    """
    found = {head: figures(statistics) for head, statistics in sums.items()}
    if found["linear"]["n"] == 0:
        return Choice("linear", "no held-out image was measured", {})
    others = [head for head in sums if head != "linear"]
    differences = {head: difference(sums[head], sums["linear"], by, confidence) for head in others}
    measured = {head: one for head, one in differences.items() if one is not None}
    if not measured:
        reason = f"{by} is not defined on the held-out images" if others else "no other head is defined"
        return Choice("linear", reason, differences)

    def rank(head: str) -> tuple[float, float]:
        return measured[head].value, found[head]["auc"] or 0.0

    winners = [head for head, one in measured.items() if one.low > 0 and one.value > 0]
    images = f"{found['linear']['n']} held-out images"
    reached = f"{by} {found['linear'][by]:.3f} on {images}"
    if winners:
        head = max(winners, key=rank)  # the first of equals
        return Choice(
            head, f"better than linear, which has {reached}, by {_text(measured[head], confidence)}", differences
        )
    best = max(measured, key=rank)
    why = f"{reached}, and no head is better beyond doubt: {best} by {_text(measured[best], confidence)}"
    return Choice("linear", why, differences)


def _text(one: Difference, confidence: float) -> str:
    return f"{one.value:+.3f} ({100.0 * confidence:g} % interval {one.low:+.3f} to {one.high:+.3f})"
