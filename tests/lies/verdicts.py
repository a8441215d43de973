"""What became of a lie: rejected by name, harmless by figures, or neither."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from fl_app.messages.records import DESCRIBE
from tests.lies.replay import LIAR, LIAR_NODE, NUM_SITES, Contents, Federation, Outcome, Rejected

# A lie is harmless if what comes out differs by at most this from a run in which the site is honest or absent.
AMOUNTS = {
    "accuracy": 0.05,  # lost by the classifier that ships, on all test images
    "abstains": 0.15,  # more or fewer of them get no answer
    "temperature": 2.0,  # times as high or as low
    "loss": 3.0,  # any loss that a reader sees: times as high or as low
    "true loss": 2.0,  # of the exported weights on the honest sites' held-out images: times as high
    "reported accuracy": 1.0 / NUM_SITES + 0.02,  # on test images, above that on all of them: the liar's share
    "images": 0.0,  # more than there are, of each part
}

Kind = Literal["rejected", "named", "harmless", "passed", "ended"]


@dataclass(frozen=True)
class Verdict:
    """What became of a lie.

    Attributes:
        kind: `rejected`: a message was, and the reason names the site; `named`: it does harm, and a warning names the
            site; `harmless`: by the figures; `passed`: it does harm, and nothing says so; `ended`: it ended the run.
        why: the reason.
        figures: how far what comes out differs, as AMOUNTS says; empty if nothing came out.
    """

    kind: Kind
    why: str = ""
    figures: dict[str, float] = field(default_factory=dict)


def judge(federation: Federation, false: Contents, is_short: bool = True) -> Verdict:
    """Return what becomes of a lie.

    Args:
        federation: it tells the lie.
        false: what the liar sends, by kind of message.
        is_short: a rejected message ends the run, so that later figures are not known.
    """
    try:
        found = federation.run(false, is_short=is_short)
    except Rejected as rejection:
        return Verdict("rejected", str(rejection))
    except Exception as error:
        return Verdict("ended", f"{type(error).__name__}: {error}")
    figures = measure(found, federation, {**federation.claims, **false})
    too_large = [name for name, value in figures.items() if not value <= AMOUNTS[name]]
    names = (f"site {LIAR}", f"node-{LIAR_NODE}")
    own = [
        reason for site, reasons in found.faults.items() if site in (LIAR, f"node-{LIAR_NODE}") for reason in reasons
    ]
    others = found.faults.keys() - {LIAR, f"node-{LIAR_NODE}"}
    warned = [text for text in found.warnings if any(name in text.lower() for name in names)]
    if others:
        return Verdict("passed", f"{', '.join(sorted(others))} were rejected in its place", figures)
    if too_large:
        said = "; ".join(f"{name} {figures[name]:.3g}" for name in too_large)
        return Verdict("named" if warned else "passed", "; ".join([said, *warned]), figures)
    return Verdict("rejected" if own else "harmless", "; ".join(own), figures)


def measure(found: Outcome, federation: Federation, false: Contents) -> dict[str, float]:
    """Return how far an outcome differs from that of the honest run or of the run without the site, the nearer one."""
    near = [dict(_differences(found, known)) for known in (federation.honest, federation.absent)]
    figures = {name: min(one[name] for one in near) for name in near[0]}
    return figures | dict(_reported(found, federation.honest, has_counts=DESCRIBE not in false))


def _differences(found: Outcome, known: Outcome) -> Iterator[tuple[str, float]]:
    yield "true loss", found.true_loss / known.true_loss if found.learned == known.learned else math.inf
    losses = [
        _factor(one.of.get(name, math.nan), loss)
        for one, other in ((found.round_losses, known.round_losses), (found.final_losses, known.final_losses))
        for name, loss in other.of.items()
    ]
    yield "loss", max([*losses, _factor(found.train_loss or math.nan, known.train_loss or math.nan)])
    if found.shipped is not None and known.shipped is not None:
        shipped, other = found.shipped, known.shipped
        yield "accuracy", other.accuracies[other.head] - shipped.accuracies[shipped.head]
        yield "abstains", abs(other.abstains - shipped.abstains)
        yield "temperature", _factor(shipped.temperature or math.nan, other.temperature or math.nan)


def _reported(found: Outcome, honest: Outcome, has_counts: bool) -> Iterator[tuple[str, float]]:
    """Yield how far the printed figures are from the truth."""
    if found.exchange is None or honest.exchange is None or found.shipped is None:
        return
    tested = [row for row in found.exchange.results if row.part == "test" and row.reading != "local"]
    true = found.shipped.accuracies
    yield (
        "reported accuracy",
        max(row.figures["accuracy"] - true[row.head] for row in tested if row.figures["n"] and row.head in true),
    )
    counts = {(row.reading, row.head, row.part): row.figures["n"] for row in honest.exchange.results}
    more = [row.figures["n"] - counts.get((row.reading, row.head, row.part), 0) for row in found.exchange.results]
    images = [float(one.pooled[one.source]["count"].sum()) for one in (found.exchange, honest.exchange)]
    yield "images", max(*more, images[0] - images[1]) if has_counts else 0.0


def _factor(one: float, other: float) -> float:
    if one == other:
        return 1.0
    return max(one, other) / min(one, other) if min(one, other) > 0 else math.inf
