"""The result of a check, and of all checks together."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from fl_app.errors import FlAppError, is_fault

Verdict = Literal["ready", "warning", "not ready", "not checked"]

_GRAVITY: dict[Verdict, int] = {"not checked": 0, "ready": 0, "warning": 1, "not ready": 2}


@dataclass(frozen=True)
class Finding:
    """The result of one check; its text may be e-mailed: no file names, no paths, no data of patients.

    Attributes:
        name: of the check.
        verdict: a node with a `warning` can join; one that is `not ready` cannot. `not checked` decides nothing.
        text: what was found and, if something is wrong, what to do.
        is_told: shown even if all is well: it is what a hospital agrees to.
    """

    name: str
    verdict: Verdict
    text: str
    is_told: bool = False


Check = Callable[[], Finding]
Checks = Iterator[tuple[str, Check]]  # each with its name, which is known before it runs


def examine(name: str, check: Check) -> Finding:
    """Run a check; if it raises, return a finding, so that the other checks still run."""
    try:
        return check()
    except FlAppError as error:
        return Finding(name, "not ready", sentence(error.public))
    except BaseException as error:  # its text may hold names of files
        if not is_fault(error):
            raise
        return Finding(name, "not ready", f"The check itself failed with {type(error).__name__}.")


def examine_next(checks: Checks) -> Finding | None:
    """Run the next check; return None after the last one. An error between two checks is a finding, and ends them."""
    try:
        name, check = next(checks)
    except StopIteration:
        return None
    except FlAppError as error:
        return Finding("doctor", "not ready", sentence(error.public))
    except BaseException as error:  # as in `examine`
        if not is_fault(error):
            raise
        return Finding("doctor", "not ready", f"The checks ended early with {type(error).__name__}.")
    return examine(name, check)


def exit_status(findings: Iterable[Finding]) -> int:
    """Return 0 for ready, 1 for warnings, 2 for not ready."""
    return max((_GRAVITY[finding.verdict] for finding in findings), default=0)


def sentence(text: str) -> str:
    """Return a text as a sentence, with a capital letter and a full stop."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: `1 image`, `2 images`, `2 classes`."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"
