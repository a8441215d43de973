"""The audit of a run's diffusion model: its file, its line for people, and the gate before the export."""

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic.dataclasses import dataclass

from fl_app.errors import RunFolderError
from fl_app.files import CARD, KEBAB, replace_folder, to_json, write_json, write_manifest
from fl_app.logs import clean_text
from fl_app.metrics.audited import Copies, Membership, Verdict
from fl_app.runs.documents import read_json

if TYPE_CHECKING:  # a reader of the file needs none of what they import
    from fl_app.options.audit import AuditOptions
    from fl_app.passes import Answers
    from fl_app.runs.recorder import TaskRun
    from fl_app.runs.status import Status
    from fl_app.strategies.node_outcome import NodeOutcome
    from fl_app.sums import Sums

log = logging.getLogger(__name__)

QUARANTINED = "model.quarantined"  # in place of `model`
MARK = "quarantine.json"  # in an exported folder: why it is not to be used
TASK = "diffusion"
AUDIT = Path(TASK, "audit.json")  # in a run folder
V = TypeVar("V", Membership, Copies)

_LONGEST = 2000  # characters of a reason
_WORST: tuple[Verdict, ...] = ("exceeded", "undecided", "passed")


class QuarantineError(RunFolderError):
    """A model that the audit found to know its training images, or to repeat them, is opened without saying so."""


@dataclass(frozen=True, kw_only=True, config=KEBAB)
class Audit:
    """The content of `diffusion/audit.json`.

    Attributes:
        membership: figures and verdict of the membership inference.
        copies: figures and verdict of the search for copies; None if there was none.
        verdict: the worse one of both, `exceeded`, `undecided` or `passed`; None in files of older versions, for which
            `read_audit` sets it.
        reason: of this verdict, for people.
        max_auc: the limit.
        is_quarantined: whether the gate has put the model aside.
        weights: which ones were audited, such as `raw`.
        round: after which they were.
        left_out: sites whose counts are missing, and why.
        seconds: that the audit took, from question to verdict.
        histograms: images by score over all sites, see `metrics.membership.shown_histograms`.
    """

    membership: Membership
    max_auc: float
    copies: Copies | None = None
    verdict: Verdict | None = None
    reason: str = ""
    is_quarantined: bool = False
    weights: str = "raw"
    round: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    histograms: dict[str, list[float]] = field(default_factory=dict)

    @property
    def quarantine(self) -> str | None:
        """Why the model is put aside; None if it is not."""
        return self.overall[1] if self.is_quarantined else None

    @property
    def answered(self) -> list[str]:
        """The sites whose answers arrived, rejected ones included."""
        return [*self.membership.sites, *(site for site, why in self.left_out.items() if why.startswith("refused"))]

    @property
    def overall(self) -> tuple[Verdict, str]:
        """Verdict and reason of both parts, also of a file that an older version wrote."""
        return (
            (self.membership.verdict, self.membership.reason) if self.verdict is None else (self.verdict, self.reason)
        )


def examine(task_run: "TaskRun", name: str, number: int, ask: "Callable[[], Answers | None]") -> Audit | None:
    """Audit the weights that are to be exported, and write audit.json; an audit that fails ends no run.

    A model is put aside if either part is exceeded: what it knows, or what it draws.

    Args:
        task_run: of the pass.
        name: of the weights.
        number: of the round that made them.
        ask: lets the nodes count their images; None: the pass has no audit.
    """
    options, status, started = task_run.run_pass.config.audit, task_run.status, time.time()
    pass_name = task_run.run_pass.name
    what = f"membership audit of {pass_name}"
    known = _known(task_run.folder.path, name, number) if pass_name == TASK else None  # no other pass is audited
    if known is not None:
        status.recall(pass_name, what)
        return known
    outcomes: Mapping[str, NodeOutcome] = {}
    try:
        answers = ask()
        if answers is None:
            return None
        parts, outcomes = answers
        judged = _judge(parts, options)
    except Exception as error:  # also an error of ours: the model is trained, and is exported all the same
        judged = _Judged(Membership(verdict="undecided", reason=_failure(error)), problem=_failure(error))
    status.note(pass_name, what, outcomes, judged.problem)
    missing = {site: node for site, node in outcomes.items() if node.outcome != "contributed"}
    left_out = {site: f"{node.outcome}: {node.reason or ''}".rstrip(": ") for site, node in missing.items()}
    num_answers = len(outcomes) - len(left_out)
    membership = _of_few(judged.membership, num_answers, left_out)
    copies = None if judged.copies is None else _of_few(judged.copies, num_answers, left_out)
    verdict, reason = _overall(membership, copies)
    audit = Audit(
        membership=membership,
        copies=copies,
        verdict=verdict,
        reason=reason,
        max_auc=options.max_auc,
        is_quarantined=options.gate and verdict == "exceeded",
        weights=name,
        round=number,
        left_out=left_out,
        seconds=time.time() - started,
        histograms=judged.histograms,
    )
    write_json(task_run.folder.task(pass_name) / "audit.json", to_json(audit))
    log.info("%s", describe_audit(audit))
    return audit


def _of_few(part: V, num_answers: int, left_out: Mapping[str, str]) -> V:
    """Name the sites whose images were not looked at; no pass rests on one site alone."""
    if num_answers == 0 or not left_out:
        return part
    said = f"{part.reason}. Not audited, since they gave no valid answer: {', '.join(left_out)}"
    if num_answers == 1 and part.verdict == "passed":
        return replace(part, verdict="undecided", reason=f"one site alone answered, so nothing passes: {said}")
    return replace(part, reason=said)


@dataclass(frozen=True)
class _Judged:
    """Both parts of an audit; `problem`: what went wrong in it."""

    membership: Membership
    copies: Copies | None = None
    histograms: dict[str, list[float]] = field(default_factory=dict)
    problem: str | None = None


def _judge(parts: "Mapping[str, Sums]", options: "AuditOptions") -> _Judged:
    """Judge what the sites sent; an error of the second part does not cost the verdict of the first."""
    from fl_app.metrics.copies import judge_copies  # readers of the file need no numpy
    from fl_app.metrics.membership import blank_histograms, judge_membership, shown_histograms

    if not parts:
        problem = "no site answered the membership audit"
        return _Judged(Membership(verdict="undecided", reason=problem), problem=problem)
    scored = {site: {key: sums[key] for key in blank_histograms()} for site, sums in parts.items()}
    judged = _Judged(judge_membership(scored, options.max_auc), histograms=shown_histograms(scored.values()))
    if not options.copies_images:
        return judged
    try:
        copies = judge_copies({site: _rest(sums, scored[site]) for site, sums in parts.items()})
    except Exception as error:
        return replace(judged, copies=Copies(verdict="undecided", reason=_failure(error)), problem=_failure(error))
    return replace(judged, copies=copies)


def _failure(error: Exception) -> str:
    """Log an error of the audit, and return it in words without its text, which may hold anything."""
    log.error("The audit failed", exc_info=error)
    return f"the membership audit failed ({type(error).__name__})"


def _rest(sums: "Sums", without: "Sums") -> "Sums":
    return {key: value for key, value in sums.items() if key not in without}


def _overall(membership: Membership, copies: Copies | None) -> tuple[Verdict, str]:
    """Return the worse verdict of both parts, and the reasons of the parts that have it."""
    parts = (membership,) if copies is None else (membership, copies)
    worst = next(one for one in _WORST if one in {part.verdict for part in parts})
    return worst, "; ".join(part.reason for part in parts if part.verdict == worst)


def _known(run: Path, name: str, number: int) -> Audit | None:
    """Return the decided audit of the same weights by an earlier process, which a resumed run must not lose."""
    try:
        found = read_audit(run)
    except RunFolderError as error:
        log.warning("%s The model is audited again", error)
        return None
    is_same = found is not None and (found.weights, found.round) == (name, number)
    return found if found is not None and is_same and found.overall[0] != "undecided" else None


def read_audit(run: Path) -> Audit | None:
    """Read the audit of a run folder; None if there is none.

    Raises:
        RunFolderError: its file is damaged.
    """
    found = read_json(Audit, run / AUDIT, ": what the audit found is not known.")
    if found is None:
        return None
    verdict, reason = found.overall
    return replace(found, verdict=verdict, reason=reason)


def describe_audit(audit: Audit) -> str:
    """Return the result in a line."""
    found = audit.membership
    sites = f"{len(found.sites)} site{'' if len(found.sites) == 1 else 's'}"
    images = f"{found.num_train} training, {found.num_held_out} held-out and {found.num_test} test images of {sites}"
    copies = audit.copies
    searched = f". Copies: {copies.verdict}: {copies.reason}" if copies else ". Copies were not searched"
    aside = ". The model is quarantined" if audit.is_quarantined else ""
    return clean_text(f"membership audit: {found.verdict}: {found.reason} ({images}){searched}{aside}", _LONGEST)


def replace_model(task: Path, write: Callable[[Path], None], quarantine: str | None) -> None:
    """Export a model in place of an earlier one.

    Args:
        task: folder of the task.
        write: writes the model into a folder.
        quarantine: why it is put aside, in a folder of another name, whose card and a file say so; None: it is not.

    Raises:
        RunFolderError: it cannot be written.
    """
    model, aside = task / "model", task / QUARANTINED

    def write_marked(folder: Path) -> None:
        write(folder)
        warning = f"\n**Quarantined.** The audit found: {quarantine}. Do not pass this model on.\n"
        text = use_of_quarantined((folder / CARD).read_text(encoding="utf-8")) + warning
        (folder / CARD).write_text(text, encoding="utf-8", newline="\n")
        (folder / MARK).write_text(json.dumps({"reason": quarantine}), encoding="utf-8")
        write_manifest(folder)

    shutil.rmtree(aside if quarantine is None else model, ignore_errors=True)
    replace_folder(*((model, write) if quarantine is None else (aside, write_marked)))


def use_of_quarantined(use: str) -> str:
    """Return how a quarantined model is used, from the sentence of a card on how a model of its kind is."""
    return use.replace("`fl-app sample <this folder>`", "`fl-app sample <this folder> --quarantined`")


def quarantine_of(folder: Path) -> str | None:
    """Return why an exported model is quarantined; None if it is not, or there is none."""
    try:
        return clean_text(str(json.loads((folder / MARK).read_bytes())["reason"]), _LONGEST)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return f"{MARK} is damaged, so the reason is not known"


def note_quarantine(task: Path, status: "Status") -> None:
    """Remember a quarantined model as a problem of the run; `task`: folder of the task."""
    reason = quarantine_of(task / QUARANTINED)
    if reason is not None:
        status.blemish(f"the {task.name} model is quarantined: {reason}")


def check_quarantine(folder: Path) -> None:
    """Raise QuarantineError if an exported model is quarantined."""
    reason = quarantine_of(folder)
    if reason is not None:
        raise QuarantineError(
            f"The model {folder} is quarantined: {reason}. Its images may be copies of training images. To draw from "
            "it all the same: --quarantined, or quarantined=True in Python."
        )
