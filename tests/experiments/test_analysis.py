"""From result files to estimates and verdicts, with numbers worked by hand."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.prototypes.claims import Claim, judge
from experiments.prototypes.grid import SEEDS
from experiments.prototypes.places import LDA, LINEAR, SHIPS, Place, Results
from experiments.prototypes.results import collect, read_run, to_csv
from experiments.prototypes.until import Reached, until
from fl_app.errors import OptionError
from fl_app.grids.estimates import estimate
from tests.experiments.made_up import cell_named, row, write_run

SKEWED = cell_named("heads-mnist-dirichlet-0.05-fedavg-seed-0")
ROUNDS = cell_named("rounds-fashion-mnist-dirichlet-0.05-fedavg-seed-0")
MEDICAL = cell_named("medical-breastmnist-dirichlet-0.5-fedavg-seed-0")
HERE = Place("heads", "mnist", "dirichlet-0.05", "FedAvg", 3)
OVER_LINEAR = Claim(LDA, LINEAR, (HERE,), aim=1.0)


def test_the_interval_is_students() -> None:
    found = estimate([1.0, 2.0, 3.0])  # sd 1, t of 2 degrees of freedom 4.30265
    assert found.mean == 2.0 and found.num_seeds == 3
    assert found.low == pytest.approx(2 - 4.30265 / 3**0.5, abs=1e-5)
    assert found.high == pytest.approx(2 + 4.30265 / 3**0.5, abs=1e-5)


def test_one_seed_has_no_interval_and_no_seed_no_mean() -> None:
    assert (estimate([1.0]).mean, estimate([1.0]).low) == (1.0, None)
    assert (estimate([]).mean, estimate([]).num_seeds) == (None, 0)


def test_equal_differences_have_an_interval_of_no_length() -> None:
    found = estimate([0.5] * 5)
    assert found.low == found.mean == found.high == 0.5


def test_a_run_is_read_with_the_bytes_until_each_round(tmp_path: Path) -> None:
    write_run(SKEWED, tmp_path)
    rows = [row for row in read_run(SKEWED, tmp_path) if row.head == "lda"]
    assert [row.round for row in rows] == [3, 10, 30]
    assert [row.train_down for row in rows] == [3000, 10_000, 30_000]
    assert [row.train_up for row in rows] == [2700, 9000, 27_000]
    assert {(row.exchange_down, row.exchange_up) for row in rows} == {(210, 23)}
    assert all(row.ships and row.accuracy == 0.75 for row in rows)


def test_figures_on_validation_images_are_no_results(tmp_path: Path) -> None:
    write_run(SKEWED, tmp_path)
    assert len(read_run(SKEWED, tmp_path)) == 2 * 3  # heads by rounds


def test_a_baseline_is_read_beside_the_run(tmp_path: Path) -> None:
    centralised = {("global", "linear"): 0.9}
    write_run(MEDICAL, tmp_path, {"classification-centralised": centralised}, shipped=("global", "linear"))
    results = Results(read_run(MEDICAL, tmp_path))
    place = Place("medical", "breastmnist", "dirichlet-0.5", "FedAvg", 30)
    assert results.values(place, LINEAR, "auc") == {0: 0.70}
    assert results.values(place, LINEAR._replace(trained="centralised"), "auc") == {0: 0.9}


def test_runs_that_are_not_finished_are_named(tmp_path: Path) -> None:
    write_run(SKEWED, tmp_path, state="running")
    found = collect([SKEWED, MEDICAL], tmp_path)
    assert found.rows == [] and found.missing == [SKEWED.name, MEDICAL.name]


def test_degraded_runs_count_and_are_named(tmp_path: Path) -> None:
    write_run(SKEWED, tmp_path, state="degraded")
    found = collect([SKEWED], tmp_path)
    assert found.rows and found.degraded == {SKEWED.name: "site-1 2 times late"}


def test_a_run_of_another_plan_is_refused(tmp_path: Path) -> None:
    write_run(replace(SKEWED, limit=500), tmp_path)
    with pytest.raises(OptionError, match=r"other options: data.limit \(was 500, is 10000\)"):
        collect([SKEWED], tmp_path)


def test_the_csv_says_what_is_not_defined() -> None:
    text = to_csv([row(SKEWED, 3, "consistent", "lda", None), row(SKEWED, 3, "global", "linear", 1 / 3, ships=True)])
    undefined, third = csv.DictReader(io.StringIO(text))
    assert (undefined["accuracy"], undefined["ships"]) == ("not defined", "no")
    assert (third["accuracy"], third["ships"], third["balanced-accuracy"]) == ("0.33333", "yes", "0.33333")


def of_seeds(*pairs: tuple[float | None, float]) -> Results:
    """Results of lda and linear, a pair for each seed."""
    rows = []
    for seed, (ours, theirs) in enumerate(pairs):
        cell = replace(SKEWED, seed=seed)
        rows += [row(cell, 3, "consistent", "lda", ours, ships=True), row(cell, 3, "global", "linear", theirs)]
    return Results(rows)


def test_a_difference_is_that_of_pairs_in_points() -> None:
    found = judge(of_seeds(*[(0.5 + 0.1 * seed + 0.02, 0.5 + 0.1 * seed) for seed in SEEDS]), OVER_LINEAR)[0]
    assert found.difference.low == found.difference.mean == found.difference.high == 2.0
    assert found.ours == pytest.approx(0.72) and found.theirs == pytest.approx(0.70)
    assert found.verdict == "met"


def test_an_aim_is_met_at_its_very_value() -> None:
    results = of_seeds(*[(0.797, 0.8)] * 5)
    assert judge(results, replace(OVER_LINEAR, aim=-0.3))[0].verdict == "met"
    assert judge(results, replace(OVER_LINEAR, aim=-0.3, must_exceed=True))[0].verdict == "missed"


def test_an_interval_that_holds_zero_is_not_enough_where_it_is_asked_for() -> None:
    results = of_seeds((0.9, 0.7), (0.7, 0.7), (0.7, 0.7), (0.7, 0.7), (0.7, 0.7))  # +4 [-7.1, 15.1]
    assert judge(results, OVER_LINEAR)[0].verdict == "met"
    assert judge(results, replace(OVER_LINEAR, needs_interval=True))[0].verdict == "missed"


def test_a_seed_without_the_head_is_no_zero() -> None:
    found = judge(of_seeds((0.9, 0.8), (None, 0.8), (0.9, 0.8), (0.9, 0.8), (0.9, 0.8)), OVER_LINEAR)[0]
    assert found.difference.mean == 10.0 and found.difference.num_seeds == 4
    assert found.verdict == "too few seeds"


def test_nothing_measured_is_not_defined() -> None:
    found = judge(Results([]), OVER_LINEAR)[0]
    assert (found.ours, found.difference.mean, found.verdict) == (None, None, "too few seeds")


def test_a_ratio_is_the_mean_of_the_ratios() -> None:
    results = of_seeds(*[(0.8, 0.8)] * 4, (0.8, 0.4))
    found = judge(results, replace(OVER_LINEAR, is_ratio=True, aim=1.2, figure="auc"))[0]
    assert found.difference.mean == pytest.approx(1.2) and found.verdict == "met"


def test_the_head_that_ships_is_found_whatever_its_name() -> None:
    assert of_seeds((0.9, 0.8)).values(HERE, SHIPS) == {0: 0.9}


def curve(*linear: float) -> Results:
    """The linear head by round; lda always at 0.75, and it ships but for the first round."""
    rows = []
    for number, share in enumerate(linear, start=1):
        rows += [
            row(ROUNDS, number, "global", "linear", share, ships=number == 1),
            row(ROUNDS, number, "consistent", "lda", 0.75, ships=number > 1),
        ]
    return Results(rows)


def test_an_exchange_is_counted_once_and_not_for_the_linear_head() -> None:
    results = curve(0.5, 0.7, 0.75, 0.6)
    assert until(results, LINEAR, 0) == Reached(True, 3, 3000, 2700)
    assert until(results, LDA, 0) == Reached(True, 1, 1210, 923)


def test_the_head_that_ships_takes_an_exchange_even_where_it_is_the_linear_one() -> None:
    assert until(curve(0.8), SHIPS, 0) == Reached(True, 1, 1210, 923)
    assert until(curve(0.5, 0.6), SHIPS, 0) == Reached(True, 2, 2210, 1823)


def test_an_accuracy_never_reached_gives_a_bound() -> None:
    assert until(curve(0.5, 0.7), LINEAR, 0) == Reached(False, 2, 2000, 1800)
    assert until(curve(0.5), LINEAR, seed=1) is None
