"""The documents of an audit: what is written is read, and damage is told in a sentence."""

import json
from pathlib import Path

import numpy as np
import pytest

from fl_app.errors import RunFolderError
from fl_app.files import to_json
from fl_app.metrics.copies import judge_copies
from fl_app.metrics.membership import blank_histograms, judge_membership
from fl_app.metrics.nearest import DRAWN, SPACES, blank_copies, copy_sums
from fl_app.runs.audit import MARK, Audit, QuarantineError, check_quarantine, describe_audit, quarantine_of, read_audit
from tests.mutations import as_json, changed_document, damaged


def one_audit() -> Audit:
    sums = blank_histograms()
    for key in sums:
        sums[key][:] = np.random.default_rng(len(key)).integers(0, 5, len(sums[key]))
    found = judge_membership({"north": sums, "south": sums}, 0.65)
    generator = np.random.default_rng(0)
    drawn, train, held_out = (generator.normal(size=(number, 4)) for number in (30, 50, 20))
    of_space = copy_sums(drawn, train, held_out)
    compared = {f"copies/{space}/{key}": value for space in SPACES for key, value in of_space.items()}
    copies = judge_copies({"north": {**blank_copies(), **compared, DRAWN: np.full(2, 30.0)}})
    return Audit(
        membership=found,
        copies=copies,
        verdict="undecided",
        reason=copies.reason,
        max_auc=0.65,
        is_quarantined=True,
        left_out={"west": "late"},
        round=3,
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "diffusion").mkdir()
    assert read_audit(tmp_path) is None
    (tmp_path / "diffusion" / "audit.json").write_text(json.dumps(to_json(one_audit()), allow_nan=False))
    assert read_audit(tmp_path) == one_audit()


@pytest.mark.parametrize("is_bytes", [False, True])
def test_a_damaged_audit_is_refused_or_read_and_nothing_else_happens(tmp_path: Path, is_bytes: bool) -> None:
    path = tmp_path / "diffusion" / "audit.json"
    path.parent.mkdir()
    document = to_json(one_audit())
    outcomes = {"read": 0, "refused": 0}
    for seed in range(200):
        generator = np.random.default_rng(seed)
        text = json.dumps(document).encode()
        path.write_bytes(damaged(text, generator) if is_bytes else as_json(changed_document(document, generator)))
        try:
            found = read_audit(tmp_path)
        except RunFolderError:
            outcomes["refused"] += 1
            continue
        assert found is not None and describe_audit(found).startswith("membership audit: ")
        outcomes["read"] += 1
    assert min(outcomes.values()) > 0, outcomes


def test_a_mark_refuses_whatever_stands_in_it_and_commands_no_terminal(tmp_path: Path) -> None:
    check_quarantine(tmp_path)
    assert quarantine_of(tmp_path) is None
    for seed in range(100):
        (tmp_path / MARK).write_bytes(damaged(b'{"reason": "it knows\\u001b[2J them"}', np.random.default_rng(seed)))
        with pytest.raises(QuarantineError) as caught:
            check_quarantine(tmp_path)
        assert str(caught.value).isprintable()
