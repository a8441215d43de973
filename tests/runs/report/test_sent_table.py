"""What left each site, by the report of a run and by the hospitals' own log."""

import shutil
from collections import Counter
from pathlib import Path

from fl_app.messages.records import DESCRIBE, TRAIN
from fl_app.node.sent import verify
from fl_app.options.sections import OptionValue
from fl_app.runs.report.cost_tables import ANSWERS, costs_table, sent_table
from fl_app.runs.report.reading import read_material
from fl_app.runs.report.tables import Cell, Table
from tests.federation import run_federation
from tests.runs.report.made_up import make_run, write_audit
from tests.test_hospitals import hospitals, write_learnable
from tests.tiny import tiny_run

OLD_RUNS = Path(__file__).parents[2] / "old_runs"


def table_of(run: Path) -> Table:
    found = sent_table(read_material(run, 0.0))
    assert found is not None
    return found


def counts_of(table: Table) -> dict[str, dict[str, int]]:
    """Return the counts of each site by column."""
    texts = [[one.text for one in row if isinstance(one, Cell)] for row in table.rows[:-1]]
    return {row[0]: {name: int(text) for name, text in zip(table.columns[1:], row[1:], strict=True)} for row in texts}


def test_the_report_counts_what_the_hospitals_count_but_for_their_descriptions(tmp_path: Path) -> None:
    every_question: dict[str, OptionValue] = {
        "tasks": "diffusion,classification", "data.source": "folder", "data.image-size": 8, "data.limit": 0,
        "quality.num-images": 8, "quality.curve": "pixels", "gallery-every": 1, "audit.membership": True,
        "audit.copies-images": 4, "classification.replay": "generated", "classification.replay-images": 2,
        "classification.num-rounds": 1,
    }  # fmt: skip
    for name in ("north", "south"):
        write_learnable(tmp_path / name)
    nodes = hospitals(tmp_path, "north", "south", tell_class_names=True)
    run_federation(tiny_run(tmp_path / "runs", every_question), 2, node_options=nodes)
    logged: dict[str, Counter[str]] = {"north": Counter(), "south": Counter()}
    for one in (line.sent for line in verify(tmp_path / "state").lines if not line.sent.is_error):
        kind = f"weights, {one.task}" if one.message == TRAIN else ANSWERS.get(one.message, one.message)
        logged[one.site][kind] += 1
    assert all(found.pop(DESCRIBE) > 0 for found in logged.values())
    assert set(logged["north"]) == {"weights, diffusion", "weights, classification", *ANSWERS.values()}
    table = table_of(tmp_path / "runs" / "run")
    assert counts_of(table) == logged
    assert not any("holds no record" in one for one in table.notes)
    costs = costs_table(read_material(tmp_path / "runs" / "run", 0.0))
    assert costs is not None
    for kind in ANSWERS.values():  # the U-Net goes out with the audit and with the images to draw
        assert any(one.startswith(f"Outside of rounds, {kind} of all sites: ") for one in costs.notes), kind


def test_answers_that_an_older_version_did_not_record_are_counted_from_its_files_or_named(tmp_path: Path) -> None:
    shutil.copytree(OLD_RUNS / "finished", tmp_path / "old")
    table = table_of(tmp_path / "old")
    assert any(
        "no record of further answers, so they are not counted: final measurements" in one for one in table.notes
    )
    assert all(counts["sums of embeddings"] == 1 for counts in counts_of(table).values())
    write_audit(run := make_run(tmp_path / "run"), left_out={"north": "refused: no counts", "south": "late"})
    assert [counts["answers to the audit"] for counts in counts_of(table_of(run)).values()] == [1, 0]
