"""The page, the pictures and the command that writes them."""

from pathlib import Path

import pytest

from experiments.prototypes.grid import EVERY_ROUND, all_cells
from experiments.prototypes.page import page
from experiments.prototypes.report import write_report
from experiments.prototypes.results import Collected, Row
from fl_app.errors import RunFolderError
from tests.experiments.made_up import cell_named, row, write_run


def whole_plan() -> list[Row]:
    """Results of every cell: lda is 2 points above linear, nearest-mean 1 point below, and more seed by seed."""
    rows = []
    for cell in all_cells():
        for number in cell.rounds:
            linear = 0.70 + 0.005 * number + 0.001 * cell.seed
            rows += [
                row(cell, number, "global", "linear", linear),
                row(cell, number, "consistent", "nearest-mean", linear - 0.01),
                row(cell, number, "consistent", "lda", linear + 0.02, ships=True),
                row(cell, number, "local", "linear", 0.4),
                row(cell, number, "local", "nearest-mean", 0.5),
            ]
            rows += [row(cell, number, "global", "linear", 0.9, trained=name) for name in cell.baselines]
    return rows


ROWS = whole_plan()


def lines_of(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(start)]


def test_the_page_counts_what_was_met_and_what_was_not() -> None:
    text = page(Collected(ROWS, [], {}), [])
    first, fourth = lines_of(text, "| 1 |")[0], lines_of(text, "| 4 |")[0]
    assert "| Fashion-MNIST, MNIST; Dirichlet 0.05, Dirichlet 0.1; R 3 |" in first
    assert first.endswith("| at least +1 points, interval above 0 | 0 of 8 | -1.00 | -1.00 |")
    assert fourth.endswith("R 3, 10 | above +0 points | 32 of 32 | +2.00 | +2.00 |")
    assert "Runs: 90 finished, 0 not." in text


def test_every_place_of_a_claim_is_shown_though_it_was_lost() -> None:
    text = page(Collected(ROWS, [], {}), [])
    lost = "| MNIST | Dirichlet 0.1 | FedProx | 10 | 74.20 | 75.20 | -1.00 [-1.00, -1.00] | 5 | missed |"
    assert lost in text


def test_the_bytes_until_the_accuracy_stand_beside_the_linear_heads() -> None:
    text = page(Collected(ROWS, [], {}), [])
    assert "A round: 0.00 MB down, 0.00 MB up." in text
    assert "| linear | 5 of 5 | 10 | 0.0 |" in text
    assert "| lda | 5 of 5 | 6 | 0.0 |" in text
    assert lines_of(text, "| 4 | lda |")[0].endswith("| 0.60 | 0.61 |")  # (6 * 1900 + 233) / (10 * 1900)


def test_an_accuracy_that_only_prototypes_reach_gives_bounds() -> None:
    kept = [one for one in ROWS if one.part != "rounds"]
    cell = cell_named("rounds-fashion-mnist-dirichlet-0.05-fedavg-seed-0")
    for number in EVERY_ROUND:
        kept += [row(cell, number, "global", "linear", 0.6), row(cell, number, "consistent", "lda", 0.8)]
    text = page(Collected(kept, [], {}), [])
    assert "| linear | 0 of 1 | > 15 | > 0.0 |" in text
    assert lines_of(text, "| 0 | lda |")[0].endswith("| < 0.07 | < 0.07 |")


def test_a_page_of_one_run_is_written_and_names_what_is_missing() -> None:
    name = "heads-mnist-iid-fedavg-seed-0"
    text = page(Collected([one for one in ROWS if one.seed == 0 and one.part == "heads"], [name], {"x": "late"}), [])
    assert f"Not finished: {name}." in text and "Not every node was always there in x: late." in text
    assert "too few seeds" in text and "not defined" in text


def test_the_whole_report_is_written_with_small_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.prototypes.report.collect", lambda cells, out: Collected(ROWS, [], {}))
    paths = write_report([], tmp_path / "runs", tmp_path / "results")
    assert [path.name for path in paths] == [
        "prototypes.csv",
        "prototypes.md",
        "prototypes-rounds.png",
        "prototypes-gain.png",
        "prototypes-readings.png",
    ]
    text = (tmp_path / "results/prototypes.md").read_text()
    for picture in paths[2:]:
        assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size < 150_000
        assert f"({picture.name})" in text


def test_a_report_of_one_finished_run_is_written(tmp_path: Path) -> None:
    cell = cell_named("heads-mnist-iid-fedavg-seed-0")
    write_run(cell, tmp_path / "runs")
    paths = write_report(all_cells(), tmp_path / "runs", tmp_path / "results")
    assert all(path.exists() for path in paths)


def test_a_report_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="holds no finished cell"):
        write_report(all_cells(), tmp_path, tmp_path / "results")
