"""Findings, what they add up to, and checks that fail."""

import pytest

from fl_app.doctor.finding import Finding, Verdict, examine, exit_status, plural
from fl_app.errors import DataError


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


def test_of_an_error_on_purpose_only_the_public_text_is_told() -> None:
    def fail() -> Finding:
        raise DataError("/data/patient-7.png is broken", public="an image is broken")

    assert examine("images", fail).text == "An image is broken."


def test_numbers_and_nouns_agree() -> None:
    assert [plural(1, "image"), plural(1234, "image"), plural(2, "class")] == ["1 image", "1,234 images", "2 classes"]
