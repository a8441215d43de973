"""Figures that are read from a run's files."""

import pytest

from fl_app.runs.results import read_figure


@pytest.mark.parametrize(
    ("text", "figure"),
    [("359", 359), ("0.5", 0.5), ("1.0", 1.0), ("not defined", "not defined"), ("", None), (None, None)],
)
def test_a_count_is_a_whole_number(text: str | None, figure: object) -> None:
    found = read_figure(text)
    assert found == figure
    assert type(found) is type(figure)
