"""What became of a false answer to a question: rejected, named, harmless by the figures, or none of these."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from flwr.app import RecordDict

from fl_app.messages.quality import QUALITY
from fl_app.messages.records import MEMBERSHIP
from fl_app.messages.replay import DRAW
from fl_app.metrics.audited import Copies, Membership
from fl_app.metrics.copies import judge_copies
from fl_app.metrics.membership import judge_membership
from fl_app.quality.figure import FRECHET, NEIGHBOURS, Figure
from fl_app.quality.figures import usefulness_figures
from tests.lies.questions import Asked, Parts, Question
from tests.lies.replay import LIAR
from tests.lies.verdicts import Verdict

_MOST_SHARE = 0.2  # that precision, recall, density or coverage may differ
_MOST_ACCURACY = 0.1  # that an accuracy of a classifier trained on generated images may differ
_LIMIT = 0.65  # of the audit's AUC


def judge_answer(asked: Asked, question: Question, false: RecordDict) -> Verdict:
    """Return what becomes of a false answer of one site to a question."""
    try:
        parts, outcomes = asked.tell(question, false)
        others = [site for site, one in outcomes.items() if site != LIAR and one.outcome != "contributed"]
        if others:
            return Verdict("passed", f"{', '.join(others)} were rejected in its place")
        if outcomes[LIAR].outcome != "contributed":
            return Verdict("rejected", outcomes[LIAR].reason or "")
        return _HARM[question.kind](asked, question, parts)
    except Exception as error:
        return Verdict("ended", f"{type(error).__name__}: {error}")


def is_near(one: Figure, other: Figure) -> bool:
    """Tell whether a figure, its floor and their errors are those of honest sites, within their noise."""
    floors = (one.floor, other.floor)
    if one.name in NEIGHBOURS:
        return _differ(one.value, other.value) <= _MOST_SHARE and _differ(*floors) <= 3.0 * _MOST_SHARE
    size = min(abs(one.value or 0.0), abs(other.value or 0.0))
    moved = _differ(one.value, other.value) <= max(size, 2.0 * max(other.error or 0.0, abs(other.floor or 0.0)))
    if one.name == FRECHET:  # a floor lacks classes without a site
        return moved and _is_factor(*floors)
    noise = max(size, 4.0 * (other.floor_error or 0.0))
    errors = _is_factor(one.error, other.error) and _is_factor(one.floor_error, other.floor_error)
    return moved and errors and _differ(*floors) <= noise


def _is_factor(one: float | None, other: float | None) -> bool:
    low, high = sorted(max(value or 0.0, 1e-12) for value in (one, other))
    return high <= 10.0 * low


def _differ(one: float | None, other: float | None) -> float:
    if one is None or other is None:
        return 0.0 if one is other else math.inf
    return abs(one - other)


def _of_quality(asked: Asked, question: Question, parts: Parts) -> Verdict:
    measured = question.name.split()[1]
    if measured == "usefulness":
        return _of_usefulness(question, parts)
    network = "pixels" if measured == "curve" else measured
    made = asked.figures[network](parts)
    if measured == "curve":  # nothing but this is shown of it
        made = [one for one in made if one.name == FRECHET and one.class_name is None]
    far = list(_far(made, asked.known_figures(question, network)))
    named = {one.name for one in made if one.rests_on == LIAR}  # figures by class have the remark of those of all
    unnamed = [one for one in far if one.name not in named]
    if unnamed:
        return Verdict("passed", f"{unnamed[0]}")
    return Verdict("named" if far else "harmless")


def _far(figures: Sequence[Figure], known: Sequence[Sequence[Figure]]) -> Iterator[Figure]:
    for one in figures:
        name = (one.name, one.class_name)
        if not any(is_near(one, other) for found in known for other in found if (other.name, other.class_name) == name):
            yield one


def _of_usefulness(question: Question, parts: Parts) -> Verdict:
    found, honest, absent = (list(usefulness_figures(sums, 60)) for sums in (parts, question.honest, question.absent))
    far = [
        one
        for one, *known in zip(found, honest, absent, strict=True)
        if min(_differ(one.value, other.value) for other in known) > _MOST_ACCURACY
    ]
    unnamed = [one for one in far if one.rests_on != LIAR]
    if unnamed:
        return Verdict("passed", f"{unnamed[0]}")
    return Verdict("named" if far else "harmless")


def _of_membership(asked: Asked, question: Question, parts: Parts) -> Verdict:
    """A lie may set off an alarm that names the site, silences none, and brings about no pass."""
    copies, *others = (judge_copies(_part(sums, of_copies=True)) for sums in (parts, question.honest, question.absent))
    if not all(0.0 <= (one.nearer or 0.0) <= 1.0 and 0.02 < (one.ratio or 1.0) < 50 for one in copies.spaces.values()):
        return Verdict("passed", f"{copies.spaces}")
    scored = (_part(sums, of_copies=False) for sums in (parts, question.honest, question.absent))
    found, *known = (judge_membership(sums, _LIMIT) for sums in scored)
    aucs = [one.auc for one in found.scores.values() if one.auc is not None]
    if not all(0.0 <= auc <= 1.0 for auc in aucs):
        return Verdict("passed", f"{aucs}")
    verdicts = [_of_verdict(copies, others), _of_verdict(found, known)]
    return next((one for kind in ("passed", "named") for one in verdicts if one.kind == kind), verdicts[0])


def _of_verdict(found: Membership | Copies, known: Sequence[Membership | Copies]) -> Verdict:
    """Judge a verdict beside `known`, those of the site's honest answer and of none."""
    verdicts = {one.verdict for one in known}
    if found.verdict in verdicts or (found.verdict == "undecided" and verdicts != {"exceeded"}):
        return Verdict("harmless")
    is_named = found.verdict == "exceeded" and f"rests on {LIAR} alone" in found.reason
    return Verdict("named" if is_named else "passed", f"{found.verdict}: {found.reason}")


def _part(parts: Parts, *, of_copies: bool) -> Parts:
    """Return the sums on copies, or those on membership."""
    return {
        site: {key: value for key, value in sums.items() if key.startswith("copies/") == of_copies}
        for site, sums in parts.items()
    }


def _of_drawing(asked: Asked, question: Question, parts: Parts) -> Verdict:
    """The server tells the counts, and does nothing with them."""
    counts = parts[LIAR]["drawn"]
    is_count = bool((counts >= 0).all() and (counts == np.round(counts)).all())
    return Verdict("harmless" if is_count and counts.max() <= 5 else "passed", f"{counts}")


_HARM: dict[str, Callable[[Asked, Question, Parts], Verdict]] = {
    QUALITY: _of_quality,
    MEMBERSHIP: _of_membership,
    DRAW: _of_drawing,
}
