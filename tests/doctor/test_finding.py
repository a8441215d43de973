"""Findings, what they add up to, and checks that fail."""

import signal

import pytest

from fl_app.doctor.finding import Checks, Finding, Verdict, examine, examine_next, exit_status, plural
from fl_app.errors import DataError
from fl_app.simulation.processes import Interrupted


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ([], 0),
        (["ready", "not checked"], 0),
        (["ready", "warning"], 1),
        (["not ready", "warning", "ready"], 2),
    ],
)
def test_the_worst_finding_decides(verdicts: list[Verdict], status: int) -> None:
    assert exit_status([Finding("x", verdict, "") for verdict in verdicts]) == status


def test_a_check_that_fails_is_a_finding_without_its_text() -> None:
    def fail() -> Finding:
        raise PermissionError("/data/patient-7.png")

    finding = examine("images", fail)
    assert finding == Finding("images", "not ready", "The check itself failed with PermissionError.")


class PanicException(BaseException):
    """What PyO3 raises where Rust panics."""


PanicException.__module__ = "pyo3_runtime"


def test_a_signal_ends_the_checks_and_is_no_finding() -> None:
    def stop() -> Finding:
        raise Interrupted(signal.SIGTERM)

    with pytest.raises(Interrupted):
        examine("images", stop)


def test_a_panic_of_a_rust_extension_is_a_finding_and_a_wish_to_stop_is_none() -> None:
    def panic() -> Finding:
        raise PanicException("/data/patient-7.png")

    def stop() -> Finding:
        raise KeyboardInterrupt

    def panic_between() -> Checks:
        yield from ()
        raise PanicException("/data/patient-7.png")

    assert examine("images", panic) == Finding("images", "not ready", "The check itself failed with PanicException.")
    found = examine_next(panic_between())
    assert found is not None and found.verdict == "not ready" and "patient" not in found.text
    with pytest.raises(KeyboardInterrupt):
        examine("images", stop)


def test_of_an_error_on_purpose_only_the_public_text_is_told() -> None:
    def fail() -> Finding:
        raise DataError("/data/patient-7.png is broken", public="an image is broken")

    assert examine("images", fail).text == "An image is broken."


def test_numbers_and_nouns_agree() -> None:
    assert [plural(1, "image"), plural(1234, "image"), plural(2, "class")] == ["1 image", "1,234 images", "2 classes"]
