"""Comparisons of runs that lack a file, or whose figures cannot be compared: what is left, and what is said."""

import json
from pathlib import Path

import pytest

from fl_app.errors import OptionError, UnknownRunError
from fl_app.grids.document import GridDocument, write_grid
from fl_app.options.sections import OptionValue
from fl_app.quality.figure import Figure
from fl_app.runs.quality import QualityDocument, write_quality
from tests.grids.made_up import write_pairs, write_run
from tests.grids.test_comparing import compare, line_of


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("metrics.jsonl", "", "metrics.jsonl is missing or empty: losses, bytes and seconds are not known"),
        ("classification/comparison.csv", "appr", "comparison.csv is missing or damaged: the figures on test images"),
        ("diffusion/quality.json", "{", "quality.json is missing or damaged: the figures of generated images"),
        ("classification/prototypes/round-0003.json", "{", "round-0003.json is damaged: the figures of each site"),
    ],
)
def test_a_damaged_file_costs_its_own_figures_and_is_named(tmp_path: Path, file: str, text: str, said: str) -> None:
    both: dict[str, OptionValue] = {"tasks": "diffusion,classification", "quality.num-images": 60}
    runs = [write_run(tmp_path / f"run-{seed}", seed, options=both) for seed in (0, 1)]
    for run in runs:
        write_quality(run, judged(60))
    (runs[1] / file).parent.mkdir(parents=True, exist_ok=True)
    (runs[1] / file).write_text(text)
    found = compare(runs)
    assert found.collected.runs[1].name == "run-1"
    assert [one for one in found.problems if said in one and one.startswith("run-1: ")], found.problems
    assert len(found.problems) == 1


def judged(
    num_generated: int, features: str = "pixels", network: str = "", neighbours: int = 5, name: str = "frechet-distance"
) -> QualityDocument:
    figure = Figure(name, features, None, 1.5, num_real=20, num_generated=num_generated, network=network)
    return QualityDocument(3, 1, num_generated, {}, "ddim", 12, 1.0, neighbours, (figure,))


def test_distances_of_different_numbers_of_generated_images_are_refused_and_other_figures_are_not(
    tmp_path: Path,
) -> None:
    runs = write_pairs(tmp_path, {"FedAvg": {0: 0.5, 1: 0.6}, "FedProx": {0: 0.6, 1: 0.7}})
    for run in runs:
        write_quality(run, judged(60 if "FedAvg" in run.name else 100))
    found = compare(runs)
    distance = line_of(found, "FedProx", "frechet-distance", "generated images")
    assert distance.over_seeds.mean == 1.5 and distance.difference.mean is None
    assert "other numbers of generated images in FedAvg: not paired" in distance.why
    assert line_of(found, "FedProx").difference.mean == pytest.approx(0.1)
    write_quality(runs[1], judged(100))
    mixed = line_of(compare(runs[:2]), "made-up", "frechet-distance", "generated images")
    assert mixed.over_seeds.mean is None and "other numbers of generated images among its runs" in mixed.why


@pytest.mark.parametrize(
    ("one", "other", "name", "what"),
    [
        (judged(60, "file", "abc"), judged(60, "file", "def"), "frechet-distance", "feature networks"),
        (judged(60, "classifier", "abc"), judged(60, "classifier", "def"), "frechet-distance", "feature networks"),
        (judged(60, "classifier"), judged(60, "classifier"), "frechet-distance", "feature networks"),  # of old versions
        (judged(60, name="precision"), judged(60, neighbours=3, name="precision"), "precision", "numbers k"),
        (judged(60), judged(60, neighbours=3), "frechet-distance", ""),
        (judged(60, "file", "abc"), judged(60, "file", "abc"), "frechet-distance", ""),
    ],
)
def test_figures_in_the_features_of_different_networks_or_of_different_k_are_refused(
    tmp_path: Path, one: QualityDocument, other: QualityDocument, name: str, what: str
) -> None:
    runs = write_pairs(tmp_path, {"FedAvg": {0: 0.5}, "FedProx": {0: 0.6}})
    for run, document in zip(runs, (one, other), strict=True):
        write_quality(run, document)
    found = line_of(compare(runs), "FedProx", name, "generated images")
    assert (f"other {what} in FedAvg: not paired" in found.why) == bool(what) and found.over_seeds.mean == 1.5


def test_figures_that_each_site_measures_by_itself_are_not_paired_with_those_of_another_number_of_sites(
    tmp_path: Path,
) -> None:
    runs = write_pairs(tmp_path, {"FedAvg": {0: 0.5}, "FedProx": {0: 0.6}})
    document = json.loads((runs[1] / "run.json").read_text())
    document["nodes"]["c"] = document["nodes"]["a"]
    (runs[1] / "run.json").write_text(json.dumps(document))
    for run in runs:
        write_quality(run, judged(60))
    found = compare(runs)
    distance = line_of(found, "strategy FedProx, nodes 3", "frechet-distance", "generated images")
    assert "other numbers of sites in strategy FedAvg, nodes 2: not paired" in distance.why
    assert "numbers of sites" not in line_of(found, "strategy FedProx, nodes 3").why  # of common test images


def test_a_folder_or_a_grid_without_a_run_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(UnknownRunError, match=r"holds no run: there is no run.json in it, or below it"):
        compare([tmp_path])
    write_grid(tmp_path, GridDocument("made-up", 2, {}, (), ()))
    with pytest.raises(OptionError, match=r"no finished run to compare.\nThe grid lists no run"):
        compare([tmp_path])
