"""What the measurements of a pass say: which weights are better, and whether anything was learned."""

from collections.abc import Mapping, Sequence

import numpy as np

from fl_app.messages.arrays import Weights
from fl_app.passes import Pass
from fl_app.runs.documents import RoundLine
from fl_app.sums import Statistics, add, decide


def objection(
    run_pass: Pass,
    chosen: str,
    weights: Weights,
    parts: Mapping[str, Statistics],
    holds_out: bool,
    history: Sequence[RoundLine],
) -> str | None:
    """Say why a model must not be exported; None if it is better than the untrained one.

    Both are compared on the same held-out images of the same sites; if that hinges on one site, most sites must find it
    better. Without held-out images the training losses of the first and the last round are compared; of a single round,
    it is enough that its loss is known.

    Args:
        run_pass: that trained it.
        chosen: name of the weights.
        weights: of the model.
        parts: the final measurement of each site.
        holds_out: most sites with images hold some out: one site could make up the only held-out images.
        history: the rounds.
    """
    name = run_pass.name
    if not all(np.isfinite(value).all() for value in weights.values()):
        return f"The model of {name} is not exported: a weight is no finite number."

    def improved(statistics: Statistics) -> bool | None:
        start, end = only(statistics, "initial"), only(statistics, chosen)
        return run_pass.improved(start, end) if start and end else None

    measured = {site: part for site, part in parts.items() if improved(part) is not None}
    if holds_out and measured:
        learned = decide(add(measured.values()), measured, lambda total: improved(total) is True, improved)
    elif holds_out:
        return f"The model of {name} is not exported: no site measured it on its held-out images."
    else:
        losses = [line.median_train_loss for line in history if line.outcome == "ok"]
        curve = [loss for loss in losses if loss is not None]
        if not curve:
            return f"The model of {name} is not exported: nothing was measured of it."
        learned = len(curve) == 1 or curve[-1] < curve[0]
    return None if learned else f"Nothing was learned: {name} is no better than the untrained model."


def better(losses: dict[str, float | None]) -> str | None:
    """Return the name with the lowest loss; None where nothing was measured."""
    measured = {name: loss for name, loss in losses.items() if loss is not None}
    return min(measured, key=lambda name: measured[name]) if measured else None


def only(statistics: Statistics, name: str) -> Statistics:
    """Return the statistics of one set of weights, their prefix taken off."""
    return {key.split("/", 1)[1]: value for key, value in statistics.items() if key.startswith(f"{name}/")}
