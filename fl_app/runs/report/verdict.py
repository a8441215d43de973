"""The first screen of a report: how the run ended, its main figures and whether its models passed the gate."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fl_app.classification.selection import HeadRow
from fl_app.quality.figure import FRECHET, LABELS, OWN_IMAGES, WORDING, Figure
from fl_app.runs.audit import AUDIT, QUARANTINED, TASK, Audit, quarantine_of
from fl_app.runs.exchanges import ExchangeDocument
from fl_app.runs.report.charts import number
from fl_app.runs.report.reading import Material
from fl_app.runs.report.tables import NOT_DEFINED

_HEADLINES = {
    "completed": ("good", "Completed", "All rounds have run, and every site did its part."),
    "degraded": ("warn", "Degraded", "The run has finished, but not all went well:"),
    "failed": ("bad", "Failed", "The run ended with an error:"),
    "unknown": ("warn", "Unknown", "How this run stands is not known:"),
}
_GOING_ON = ("going", "Going on", "This page is written anew after each round; reload it to see the newest figures.")
_STOPPED = ("bad", "Stopped", "No server works on this run any more.")
_GOOD = ("contributed", "empty")
_PARTS = {"test": "test images", "validation": "held-out images"}


@dataclass(frozen=True)
class Headline:
    """How a run stands.

    Attributes:
        kind: good, warn, bad or going: its colour and mark.
        word: such as `Completed`.
        sentence: what the word means.
        reasons: why it is so.
    """

    kind: str
    word: str
    sentence: str
    reasons: Sequence[str] = ()


@dataclass(frozen=True)
class Card:
    """A main figure.

    Attributes:
        label: its name.
        value: as text; `not defined` if it is not.
        interval: as text, or None.
        based_on: the images that it was measured on, with their number.
        note: what to compare it with, or why it is not defined.
    """

    label: str
    value: str
    based_on: str
    interval: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Check:
    """A check before a model may be used.

    Attributes:
        what: is checked.
        is_passed: None: not decided, or not done.
        text: the result, a sentence.
    """

    what: str
    is_passed: bool | None
    text: str


def headline(material: Material) -> Headline:
    """Return how the run stands, and why."""
    overview = material.overview
    reason = overview.progress.reason
    parts = material.status.reasons if material.status else ()
    if "; ".join(parts) != (reason or ""):  # of an older version, or another state
        parts = tuple((reason or "").split("; "))
    reasons = [one for one in parts if one]
    if overview.is_stopped:
        kind, word, sentence = _STOPPED
        return Headline(kind, word, sentence + (" It can be resumed." if material.document else ""), reasons)
    kind, word, sentence = _HEADLINES.get(overview.state, _GOING_ON)
    return Headline(kind, word, sentence, reasons)


def cards(material: Material) -> list[Card]:
    """Return the main figures: of the classifier that ships, and of the generated images."""
    return [*_of_classifier(material.last_exchange("classification")), *_of_images(material)]


def contributions(material: Material) -> str | None:
    """Return in a sentence who contributed; None if no round has ended."""
    rounds = material.rounds
    asked = sum(len(one.nodes) for one in rounds)
    if not rounds or not asked:
        return None
    given = sum(node.outcome == "contributed" for one in rounds for node in one.nodes.values())
    faulty = sorted({site for one in rounds for site, node in one.nodes.items() if node.outcome not in _GOOD})
    sites = {site for one in rounds for site in one.nodes}
    text = f"{len(sites)} sites gave {given} of {asked} contributions in {len(rounds)} rounds, baselines included"
    return f"{text}; missing or rejected at times: {', '.join(faulty)}." if faulty else f"{text}."


def checks(material: Material) -> list[Check]:
    """Return the gate: what a model had to pass before it was exported."""
    found = []
    for task in material.overview.tasks:
        folder = material.folder / task
        if (folder / "model").is_dir():
            text = "exported: it is better than the untrained model on the sites' held-out images."
            found.append(Check(f"Model of {task}", True, text))
        elif (reason := quarantine_of(folder / QUARANTINED)) is not None:
            found.append(Check(f"Model of {task}", False, f"quarantined: {reason}."))
        elif material.overview.state == "failed":
            found.append(Check(f"Model of {task}", False, "not exported: the run failed."))
        else:
            found.append(Check(f"Model of {task}", None, "not exported yet."))
    return found + _audit_check(material.overview.audit)


def warn_of_images(material: Material) -> str | None:
    """Return why a page must not show the generated images, or not be passed on; None if nothing speaks against it."""
    if quarantine_of(material.folder / TASK / QUARANTINED) is not None:
        return (
            "The model is quarantined: its images may be copies of training images, so this page leaves them out. They "
            f"are in the run folder, {TASK}/samples; do not pass them on."
        )
    audit, warning = material.overview.audit, "these images may be copies of training images. Do not pass this page on."
    if audit is None and (material.folder / AUDIT).exists():
        return f"What the audit found is not known: {warning}"
    return f"The audit was exceeded: {warning}" if audit and audit.overall[0] == "exceeded" else None


def shipped_row(exchange: ExchangeDocument) -> HeadRow | None:
    """Return the figures of the head that ships, on test images if there are any; None if it was not measured."""
    part = "test" if exchange.test_set else "validation"
    pair = (exchange.shipped.reading, exchange.shipped.head)
    return next((row for row in exchange.results if (row.reading, row.head) == pair and row.part == part), None)


def interval_text(interval: Sequence[float] | None) -> str | None:
    """Return an interval of 95 % as text; None if there is none."""
    return f"95 %: {interval[0]:.3f} to {interval[1]:.3f}" if interval else None


def _of_classifier(exchange: ExchangeDocument | None) -> Iterator[Card]:
    row = shipped_row(exchange) if exchange else None
    if exchange is None or row is None:
        return
    n = int(row.figures["n"])
    based_on = f"{n} {_PARTS[row.part]}"
    note = None if row.part == "test" else "There are no test images. These held-out images chose the head."
    for name in ("accuracy", "balanced-accuracy", "auc"):
        label, value = f"Classifier: {WORDING[name]}", row.figures.get(name)
        if value is None:
            why = (
                "no image was measured"
                if n == 0
                else "too few classes among these images, or networks of different sites"
            )
            yield Card(label, NOT_DEFINED, based_on, note=f"Not defined: {why}.")
        else:
            yield Card(label, f"{value:.3f}", based_on, interval_text(row.intervals.get(name)), note)


def _of_images(material: Material) -> Iterator[Card]:
    quality = material.quality
    if quality is None:
        losses = [(one.round, one.validation_loss) for one in material.rounds if one.task == "diffusion"]
        known = [(number_, loss) for number_, loss in losses if loss is not None]
        if known:
            held_out = sum(material.support("validation"))
            yield Card(
                "Diffusion: held-out loss",
                f"{known[-1][1]:.4f}",
                f"{held_out} held-out images",
                note=f"Measured in round {known[-1][0]}. Generated images are judged at the end.",
            )
        return
    if quality.problem is not None:
        yield Card(
            "Generated images", "not judged", f"{quality.num_images} generated", note=f"Not judged {quality.problem}."
        )
        return
    whole = [one for one in quality.figures if one.class_name is None]
    distances = [one for one in whole if one.name == FRECHET]
    if distances:
        yield _distance_card(distances[0])
    trained = {one.name: one for one in whole}
    if (synthetic := trained.get("trained-on-synthetic")) is not None:
        yield _share_card(f"Generated images: {synthetic.wording}", synthetic, _beside(trained.get("trained-on-real")))
    if (labels := trained.get(LABELS)) is not None:
        yield _share_card(f"Generated images: {labels.wording}", labels, None)


def _distance_card(one: Figure) -> Card:
    label, based_on = f"Fréchet distance ({one.features})", f"{one.num_real} real, {one.num_generated} generated images"
    if one.value is None:
        return Card(label, NOT_DEFINED, based_on, note=one.reason)
    note = None if one.floor is None else f"Real images reach {number(one.floor)}; lower is better."
    if one.rests_on is not None:
        note = f"{note or ''} Quite another figure without {one.rests_on}.".strip()
    return Card(label, number(one.value), based_on, note=note)


def _share_card(label: str, one: Figure, note: str | None) -> Card:
    based_on = "{} {}".format(*one.measured_on)
    if one.value is None:
        return Card(label, NOT_DEFINED, based_on, note=one.reason)
    return Card(label, f"{one.value:.3f}", based_on, interval_text(one.interval), note)


def _beside(real: Figure | None) -> str | None:
    return None if real is None or real.value is None else f"Trained on {OWN_IMAGES}: {real.value:.3f}."


def _audit_check(audit: Audit | None) -> list[Check]:
    """Return what the audit found; nothing if there was none."""
    if audit is None:
        return []
    found = []
    for name, part in (("Audit of training images", audit.membership), ("Audit of copies", audit.copies)):
        if part is None:
            found.append(Check(name, None, "copies were not searched."))
            continue
        is_passed = {"passed": True, "exceeded": False}.get(part.verdict)
        aside = " The model is quarantined." if audit.is_quarantined and is_passed is False else ""
        found.append(Check(name, is_passed, f"{part.verdict}: {part.reason}.{aside}"))
    return found
