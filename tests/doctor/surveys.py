"""Surveys for tests: a sound one, with some of it changed."""

from dataclasses import replace
from typing import Any

from fl_app.data.survey import Survey

_SOUND = Survey(
    layout="table",
    class_counts={"benign": 6, "malignant": 4},
    part_counts={"train": 8, "validation": 2},
    sizes={(32, 32): 10},
    channels={1: 10},
    num_files=10,
    num_patients=5,
    num_patients_on_two_sides=0,
    unreadable=(),
    labels_without_file=(),
    files_without_label=(),
    duplicates=(),
    contradictions=(),
)


def sound(**changes: Any) -> Survey:
    """Return a survey with nothing to complain of, but for the changes."""
    return replace(_SOUND, **changes)
