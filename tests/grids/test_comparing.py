"""Which runs are compared, how they are paired, and what is refused."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fl_app.errors import OptionError, RunFolderError, UnknownRunError
from fl_app.grids.comparing import Line
from fl_app.grids.comparison import Comparison, compare_runs
from fl_app.grids.document import Cell, GridDocument, write_grid
from fl_app.grids.estimates import estimate
from fl_app.options.sections import OptionValue
from fl_app.quality.figure import Figure
from fl_app.runs.quality import QualityDocument, write_quality
from tests.grids.made_up import round_line, write_comparison, write_pairs, write_run

OLD = Path(__file__).parents[1] / "old_runs"


def compare(folders: Sequence[Path], baseline: str | None = None) -> Comparison:
    return compare_runs(folders, Path("/nowhere"), baseline)


def line_of(found: Comparison, setting: str, name: str = "accuracy", method: str = "ships") -> Line:
    return next(
        one
        for one in found.lines
        if (one.setting, one.figure.name, one.figure.method) == (setting, name, method) and not one.figure.site
    )


def test_differences_are_taken_within_each_seed(tmp_path: Path) -> None:
    runs = write_pairs(tmp_path, {"FedAvg": {0: 0.5, 1: 0.8, 2: 0.6}, "FedProx": {0: 0.52, 1: 0.81, 2: 0.63}})
    found = line_of(compare(runs), "FedProx")
    expected = estimate([0.02, 0.01, 0.03])
    assert found.difference.mean == pytest.approx(expected.mean)
    assert found.difference.low == pytest.approx(expected.low) and found.difference.num_seeds == 3
    assert found.over_seeds.mean == pytest.approx((0.52 + 0.81 + 0.63) / 3)
    assert found.reference == "FedAvg" and line_of(compare(runs), "FedAvg").reference == ""


def test_the_order_in_which_runs_are_named_changes_no_difference(tmp_path: Path) -> None:
    runs = write_pairs(tmp_path, {"FedAvg": {0: 0.5, 1: 0.8}, "FedProx": {0: 0.52, 1: 0.7}})
    one, other = compare(runs, "FedAvg"), compare(runs[::-1], "FedAvg")
    assert line_of(one, "FedProx").difference == line_of(other, "FedProx").difference


@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(0, 1), min_size=2, max_size=3))
def test_a_setting_compared_with_the_same_figures_differs_by_zero(tmp_path: Path, values: list[float]) -> None:
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)
    seeds = dict(enumerate(values))
    found = line_of(compare(write_pairs(tmp_path / "runs", {"FedAvg": seeds, "FedProx": seeds})), "FedProx")
    assert (found.difference.mean, found.difference.low, found.difference.high) == (0.0, 0.0, 0.0)


def test_the_baseline_turns_the_sign(tmp_path: Path) -> None:
    runs = write_pairs(tmp_path, {"FedAvg": {0: 0.5, 1: 0.8}, "FedProx": {0: 0.6, 1: 0.7}})
    one, other = line_of(compare(runs), "FedProx"), line_of(compare(runs, "FedProx"), "FedAvg")
    assert one.difference.high == pytest.approx(-(other.difference.low or 0))


def test_an_unknown_baseline_is_refused_with_the_settings_that_there_are(tmp_path: Path) -> None:
    runs = write_pairs(tmp_path, {"FedAvg": {0: 0.5}, "FedProx": {0: 0.6}})
    with pytest.raises(
        OptionError, match=r"one of the settings, FedAvg; FedProx, got 'FedPrx'. Did you mean 'FedProx'"
    ):
        compare(runs, "FedPrx")


def test_one_common_seed_gives_a_difference_without_an_interval(tmp_path: Path) -> None:
    runs = write_pairs(tmp_path, {"FedAvg": {0: 0.5, 1: 0.8}, "FedProx": {1: 0.9, 2: 0.7}})
    found = line_of(compare(runs), "FedProx")
    assert found.difference.mean == pytest.approx(0.1) and found.difference.low is None
    assert found.over_seeds.num_seeds == 2 and "one common seed with FedAvg" in found.why


def test_seeds_without_a_partner_are_not_paired(tmp_path: Path) -> None:
    runs = write_pairs(tmp_path, {"FedAvg": {0: 0.5}, "FedProx": {1: 0.9}})
    found = line_of(compare(runs), "FedProx")
    assert found.difference.mean is None and found.over_seeds.mean == 0.9
    assert "no common seed with FedAvg" in found.why


def test_other_test_images_are_refused_for_their_figures_only(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"a{seed}", seed, 0.5) for seed in (0, 1)]
    options = {"classification.strategy": "FedProx"}
    runs += [write_run(tmp_path / f"b{seed}", seed, 0.6, images=90, options=options) for seed in (0, 1)]
    found = compare(runs)
    assert line_of(found, "FedProx").difference.mean is None
    assert "other test images in FedAvg: not paired" in line_of(found, "FedProx").why
    assert line_of(found, "FedProx").over_seeds.mean == pytest.approx(0.6)
    loss = line_of(found, "FedProx", "held-out-loss", "")
    assert loss.difference.mean == 0.0 and loss.difference.num_seeds == 2


@pytest.mark.parametrize(
    ("option", "value", "what"),
    [("data.limit", 50, "data"), ("partition.alpha", 0.1, "split"), ("data.class-names", "x,y", "classes")],
)
def test_other_data_splits_and_classes_are_not_paired(
    tmp_path: Path, option: str, value: float | str, what: str
) -> None:
    runs = [write_run(tmp_path / f"a{seed}", seed, 0.5) for seed in (0, 1)]
    other = {option: value, "classification.strategy": "FedProx"}
    runs += [write_run(tmp_path / f"b{seed}", seed, 0.6, options=other) for seed in (0, 1)]
    found = compare(runs)
    second = line_of(found, found.settings[1])
    assert second.difference.mean is None and f"other {what} in {found.settings[0]}" in second.why
    assert second.over_seeds.num_seeds == 2


def test_each_split_has_the_baseline_as_its_own_reference(tmp_path: Path) -> None:
    runs = [
        write_run(
            tmp_path / f"{name}-{alpha}-{seed}",
            seed,
            accuracy + alpha / 10,
            options={"classification.strategy": name, "partition.alpha": alpha},
        )
        for name, accuracy in (("FedAvg", 0.5), ("FedProx", 0.6))
        for alpha in (0.1, 0.5)
        for seed in (0, 1)
    ]
    found = compare(runs, "alpha 0.1, strategy FedAvg")
    assert line_of(found, "alpha 0.5, strategy FedAvg").reference == ""
    second = line_of(found, "alpha 0.5, strategy FedProx")
    assert second.reference == "alpha 0.5, strategy FedAvg" and second.difference.mean == pytest.approx(0.1)


def test_unlike_runs_are_called_by_their_names_and_the_page_says_what_they_are(tmp_path: Path) -> None:
    other: dict[str, OptionValue] = {
        "classification.strategy": "FedProx",
        "classification.batch-size": 8,
        "classification.learning-rate": 0.5,
        "classification.num-rounds": 3,
        "partition.scheme": "iid",
    }
    runs = [write_run(tmp_path / "first-seed-0"), write_run(tmp_path / "second-seed-0", options=other)]
    found = compare(runs)
    assert found.settings == ["first", "second"]
    assert "classification.batch-size = 8" in found.collected.meaning("second")


def test_a_figure_that_is_not_defined_is_no_zero(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", 0, "not defined"), write_run(tmp_path / "b", 1, 0.8)]
    found = line_of(compare(runs), "made-up")
    assert found.over_seeds.mean == 0.8 and found.over_seeds.num_seeds == 1 and "not defined" in found.why


def test_with_one_setting_each_way_to_classify_is_compared_with_the_own_layer_of_its_run(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"s{seed}", seed, 0.5 + 0.1 * seed, own=0.4) for seed in (0, 1)]
    found = line_of(compare(runs), "made-up")
    assert found.reference == "own layer" and found.difference.mean == pytest.approx(0.15)
    assert line_of(compare(runs), "made-up", method="own layer").reference == ""


def test_a_second_run_of_the_same_seed_and_options_is_left_out_and_named(tmp_path: Path) -> None:
    found = compare([write_run(tmp_path / "a", 0, 0.5), write_run(tmp_path / "b", 0, 0.9)])
    assert line_of(found, "made-up").over_seeds.mean == 0.5
    assert found.problems == ["b is left out: a has the same options and the same seed."]


def test_the_approaches_of_different_strategies_are_the_same_methods(tmp_path: Path) -> None:
    found = compare(write_pairs(tmp_path, {"FedAvg": {0: 0.5}, "FedProx": {0: 0.6}}))
    methods = {one.figure.method for one in found.lines if one.figure.head}
    assert methods == {"own layer", "prototypes"}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "run.json").write_text("{"), "run.json is damaged"),
        (lambda folder: (folder / "run.json").unlink(), "it holds no run.json"),
        (lambda folder: shutil.rmtree(folder), "it has not been started"),
        (
            lambda folder: (folder / "status.json").write_text('{"state": "running"}'),
            "has not ended well. It is stopped",
        ),
        (lambda folder: (folder / "status.json").write_text('{"state": "failed", "reason": "no"}'), "failed: no"),
        (lambda folder: (folder / "status.json").unlink(), "has not ended well"),
        (lambda folder: without(folder, "tasks"), "the run names no task"),
        (lambda folder: without(folder, "seed"), "the run names no seed"),
    ],
)
def test_half_written_runs_are_left_out_and_the_rest_is_compared(tmp_path: Path, spoil: object, said: str) -> None:
    cells = [Cell(f"run-{seed}", seed, {}) for seed in (0, 1)]
    write_grid(tmp_path, GridDocument("made-up", 2, {}, (), tuple(cells)))
    whole, spoilt = (write_run(tmp_path / cell.name, cell.seed, 0.5) for cell in cells)
    spoil(spoilt)  # type: ignore[operator]
    found = compare([tmp_path])
    assert [run.folder for run in found.collected.runs] == [whole]
    assert len(found.problems) == 1 and found.problems[0].startswith("run-1 is left out: ")
    assert said in found.problems[0]


def without(folder: Path, option: str) -> None:
    document = json.loads((folder / "run.json").read_text())
    del document["options"][option]
    document["seed"] = None
    (folder / "run.json").write_text(json.dumps(document))


def test_nothing_finished_is_an_error_that_says_why(tmp_path: Path) -> None:
    write_run(tmp_path / "one", state="running")
    with pytest.raises(OptionError, match=r"no finished run to compare.\none is left out: the run has not ended"):
        compare([tmp_path / "one"])


def test_a_name_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownRunError, match="No run 'nothing'"):
        compare([Path("nothing")])


def test_a_damaged_grid_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "grid.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"grid.json is damaged. Remove it and give the same command again"):
        compare([tmp_path])


def test_a_run_of_an_older_version_is_compared_with_what_it_has(tmp_path: Path) -> None:
    shutil.copytree(OLD / "finished", tmp_path / "old")
    found = compare([tmp_path / "old"])
    assert line_of(found, found.settings[0]).over_seeds.num_seeds == 1
    assert line_of(found, found.settings[0], "held-out-loss", "").figure.task == "diffusion"


def test_a_table_without_a_column_that_is_younger_than_it_says_so(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "one")
    rows = "approach,reading,head,images,n,accuracy\nFedAvg (ships),global,linear,test,10,0.5\n"
    (folder / "classification" / "comparison.csv").write_text(rows)
    found = compare([folder])
    assert line_of(found, "made-up").over_seeds.mean == 0.5
    assert line_of(found, "made-up", "macro-f1").why.startswith("not in comparison.csv")


def test_an_option_that_an_older_version_lacks_makes_no_setting(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"s{seed}", seed, 0.5) for seed in (0, 1)]
    document = json.loads((runs[0] / "run.json").read_text())
    del document["options"]["export.licence"]
    (runs[0] / "run.json").write_text(json.dumps(document))
    assert compare(runs).settings == ["made-up"]


def write_quality_of(folder: Path) -> None:
    (folder / "diffusion").mkdir()
    figures = (
        Figure("distance", "small", None, 3.5, num_real=100),
        Figure("distance", "small", "a", 9.0, num_real=10),
        Figure("recall", "", None, None, reason="too few images"),
    )
    write_quality(folder, QualityDocument(3, 0, 100, {"a": 50, "b": 50}, "ddim", 5, 1.0, 5, figures))


def test_the_quality_of_generated_images_is_read_if_it_is_there(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "one")
    write_quality_of(folder)
    found = compare([folder])
    whole = line_of(found, "made-up", "distance", "generated images")
    assert whole.over_seeds.mean == 3.5 and whole.images == [100] and whole.figure.head == "small"
    assert line_of(found, "made-up", "recall", "generated images").why.startswith("too few images")
    assert line_of(found, "made-up", "distance", "generated images, one class").over_seeds.mean == 9.0
    files = {path.name for path in found.write(tmp_path / "out")}
    assert "generated-images.png" in files
    page = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    assert "| made-up | distance | small | 3.5 | - | 1 | 100 |" in page


def test_the_quality_over_the_rounds_has_a_picture(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "one")
    lines = [{**round_line(number, 0.5), "task": "diffusion", "drawn": {"raw": 9.0 / number}} for number in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert "quality-diffusion.png" in {path.name for path in compare([folder]).write(tmp_path / "out")}


def test_a_damaged_quality_file_costs_nothing_else(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "one")
    (folder / "diffusion").mkdir()
    (folder / "diffusion" / "quality.json").write_text("{")
    assert line_of(compare([folder]), "made-up").over_seeds.mean == 0.5


def test_another_number_of_nodes_is_another_setting(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "two", 0, 0.5), write_run(tmp_path / "three", 0, 0.6)]
    document = json.loads((runs[1] / "run.json").read_text())
    document["nodes"]["c"] = document["nodes"]["a"]
    (runs[1] / "run.json").write_text(json.dumps(document))
    assert compare(runs).settings == ["nodes 2", "nodes 3"]


def test_the_own_layer_may_be_what_ships(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "one")
    write_comparison(folder, "FedAvg (ships),global,linear,test,10,0.7,,,0.7,0.7,0.7,,")
    found = compare([folder])
    assert line_of(found, "made-up").over_seeds.mean == 0.7
    assert line_of(found, "made-up", method="own layer").over_seeds.mean == 0.7
