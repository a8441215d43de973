"""The files and frames of a comparison."""

import csv
from pathlib import Path

import pytest
from PIL import Image

import fl_app
from fl_app.grids.comparison import Comparison, compare_runs
from fl_app.grids.document import Cell, GridDocument, write_grid
from fl_app.grids.tables import COLUMNS, to_csv
from tests.grids.made_up import write_pairs, write_run

STRATEGIES = ("FedAvg", "FedProx", "FedAdam", "FedYogi", "FedAdagrad", "FedMedian", "FedTrimmedAvg", "FedAvgM", "Krum")


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    pairs = {"FedAvg": {0: 0.5, 1: 0.8}, "FedProx": {0: 0.6, 1: 0.7}}
    return compare_runs(write_pairs(tmp_path / "runs", pairs), tmp_path)


def test_every_row_of_the_csv_names_run_seed_data_and_split(comparison: Comparison) -> None:
    found = list(csv.DictReader(to_csv(comparison.collected).splitlines()))
    assert tuple(found[0]) == COLUMNS
    assert all(
        row["run"] and row["seed"] and row["data"] == "digits" and row["split"] == "dirichlet-0.5" for row in found
    )
    assert len(
        {(row["run"], row["task"], row["method"], row["head"], row["site"], row["figure"]) for row in found}
    ) == len(found)


def test_a_figure_that_is_not_defined_says_so_in_the_csv(tmp_path: Path) -> None:
    found = compare_runs([write_run(tmp_path / "one", 0, "not defined")], tmp_path)
    row = next(row for row in csv.DictReader(to_csv(found.collected).splitlines()) if row["figure"] == "accuracy")
    assert row["value"] == "not defined" and row["note"] == "not defined"


def test_the_page_has_means_deviations_and_paired_intervals(comparison: Comparison, tmp_path: Path) -> None:
    comparison.write(tmp_path / "out")
    text = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    assert "| FedAvg | 0.650 ± 0.212 | 0.650 ± 0.212 | 0.650 ± 0.212 | 0.650 ± 0.212 | - | 2 | 100 |" in text
    assert "| FedProx | 0.650 ± 0.071 |" in text and "| +0.000 [-1.271, +1.271] | 2 | 100 |" in text
    assert "| FedAvg | classification.strategy = FedAvg | digits | dirichlet-0.5 | 0, 1 |" in text


def test_the_page_names_what_was_left_out(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", 0, 0.5), write_run(tmp_path / "b", 0, 0.9)]
    compare_runs(runs, tmp_path).write(tmp_path / "out")
    text = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    assert "- b is left out: a has the same options and the same seed." in text


def test_pictures_are_drawn_as_svg_and_png_at_200_dpi(comparison: Comparison, tmp_path: Path) -> None:
    files = comparison.write(tmp_path)
    pictures = [path for path in files if path.suffix == ".png"]
    named = {"accuracy", "loss-classification", "test-accuracy", "bytes-up-classification", "seconds-classification"}
    assert named <= {path.stem for path in pictures} and "sites" in {path.stem for path in pictures}
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.info["dpi"] == pytest.approx((200, 200), abs=0.1)
        assert path.with_suffix(".svg").read_text(encoding="utf-8").startswith("<?xml")


def test_the_same_runs_give_the_same_bytes(comparison: Comparison, tmp_path: Path) -> None:
    for name in ("one", "other"):
        comparison.write(tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes(), path.name


def test_nine_settings_have_nine_styles(tmp_path: Path) -> None:
    from fl_app.grids.pictures import _style

    styles = [tuple(sorted(_style(number).items())) for number in range(len(STRATEGIES))]
    assert len(set(styles)) == len(STRATEGIES)


def test_compare_in_python_returns_frames(tmp_path: Path) -> None:
    write_pairs(tmp_path / "runs", {"FedAvg": {0: 0.5, 1: 0.8}, "FedProx": {0: 0.6, 1: 0.7}})
    found = fl_app.compare(tmp_path / "runs", baseline="FedProx")
    assert isinstance(found, fl_app.Comparison) and found.settings == ["FedAvg", "FedProx"]
    rows, table = found.rows(), found.table()
    accuracy = rows[(rows["figure"] == "accuracy") & (rows["method"] == "ships")]
    assert sorted(accuracy["value"]) == [0.5, 0.6, 0.7, 0.8]
    row = table[(table["figure"] == "accuracy") & (table["method"] == "ships") & (table["setting"] == "FedAvg")].iloc[0]
    assert row["mean"] == pytest.approx(0.65) and row["pairs"] == 2 and row["reference"] == "FedProx"
    assert table["difference"].dtype == "float64"


def test_a_grid_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "fl-app" / "grids" / "small"
    write_run(folder / "one")
    write_grid(folder, GridDocument("made-up", 2, {}, (), (Cell("one", 0, {}),)))
    assert fl_app.compare("small").grid == folder


def test_runs_may_be_named_opened_and_mixed(tmp_path: Path) -> None:
    one, other = write_pairs(tmp_path, {"FedAvg": {0: 0.5}, "FedProx": {0: 0.6}})
    found = fl_app.compare([fl_app.open_run(one), other.name], folder=tmp_path)
    assert [run.name for run in found.collected.runs] == [one.name, other.name]
