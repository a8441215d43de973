"""Says why a run folder holds no audit, and no search for copies: the causes are told apart."""

import time
from pathlib import Path

from fl_app.errors import RunFolderError
from fl_app.runs.audit import TASK, read_audit
from fl_app.runs.overview import look_at
from fl_app.runs.run_json import read_document

_AUDIT, _COPIES = "audit.membership", "audit.copies-images"


def why_no_task(run: Path) -> str | None:
    """Return why a run can have no diffusion model; None if it trains one, or may do so."""
    try:
        tasks = [one.strip() for one in str(read_document(run).options.get("tasks", TASK)).split(",")]
    except RunFolderError:
        return None
    return None if TASK in tasks else f"it has no task {TASK} (its tasks: {', '.join(tasks)})"


def why_no_audit(run: Path) -> str:
    """Return why a run holds no audit, the end of a sentence."""
    overview = look_at(run, time.time())
    if overview.files.document is None:
        damage = "damaged" if (run / "run.json").exists() else "missing"
        return f"its run.json is {damage}, so what it was asked to do is not known"
    options = overview.files.document.options
    without = why_no_task(run)
    if without is not None:
        return without
    if _AUDIT not in options:
        return "it was made by a version that had no audit"
    if options[_AUDIT] is not True:
        return f"its option '{_AUDIT}' asks for none"
    if overview.is_going_on:
        return "it is still training, and the audit comes before the model is exported"
    if overview.is_stopped:
        return "it was stopped before the audit; it can be resumed"
    if overview.state == "failed":
        return "it failed before the audit"
    return f"its {TASK}/audit.json is missing"


def why_no_copies(run: Path) -> str:
    """Return why a run folder holds no pairs of a search for copies, the end of a sentence."""
    try:
        audit = read_audit(run)
    except RunFolderError:
        return f"its {TASK}/audit.json is damaged, and no pairs are kept beside it"
    if audit is None:
        return why_no_audit(run)
    if audit.copies is not None:
        return (
            f"it is the run of hospitals, which keep the pairs on their own machines (`fl-app copies {run.name} "
            f"--state-dir FOLDER` there). All that the run knows is in {TASK}/audit.json: {audit.copies.verdict}"
        )
    try:
        options = read_document(run).options
    except RunFolderError:
        return why_no_audit(run)
    if _COPIES not in options:
        return "it was made by a version whose audit did not look for copies"
    if options[_COPIES] == 0:
        return f"its option '{_COPIES}' asks for none"
    return f"its audit did not come to it: {audit.overall[1]}"
