"""The cells of a grid: which there are, what each is called, and what is found in their folders."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fl_app.errors import OptionError, RunFolderError
from fl_app.grids.document import read_grid, write_grid
from fl_app.options.app_files import own_app, read_defaults
from fl_app.options.sections import OptionValue
from fl_app.simulation.cells import Grid, check_cells, make_cells, parse_varied, plan_grid
from fl_app.simulation.claim import claim

DEFAULTS = read_defaults(own_app())


def plan(
    out: Path | None,
    varied: Sequence[str] = (),
    settings: Sequence[str] = (),
    seeds: Sequence[int] = (0, 1),
    nodes: int = 2,
) -> Grid:
    return plan_grid(own_app(), "demo", settings, varied, seeds, nodes, out)


def write_run(grid: Grid, number: int, state: str, changes: dict[str, OptionValue] | None = None) -> None:
    """Write what a run of a cell leaves first of all, and its state."""
    one = grid.cells[number]
    folder = grid.folder / one.cell.name
    folder.mkdir(parents=True)
    options: dict[str, Any] = {**DEFAULTS, **one.overrides, **(changes or {})}
    (folder / "run.json").write_text(json.dumps({"run-name": folder.name, "options": options}))
    (folder / "status.json").write_text(json.dumps({"state": state}))


def test_the_cells_are_the_product_of_all_values_and_seeds(tmp_path: Path) -> None:
    varied = ["classification.strategy=FedAvg,FedProx", "partition.alpha=0.1,1"]
    found = plan(tmp_path, varied)
    assert [one.cell.name for one in found.cells[:4]] == [
        "strategy-FedAvg-alpha-0.1-seed-0",
        "strategy-FedAvg-alpha-1-seed-0",
        "strategy-FedProx-alpha-0.1-seed-0",
        "strategy-FedProx-alpha-1-seed-0",
    ]
    assert len(found.cells) == 8 and {one.cell.seed for one in found.cells[4:]} == {1}
    assert all(one.overrides["seed"] == one.cell.seed for one in found.cells)
    assert found.cells[3].overrides["partition.alpha"] == 1


def test_without_varied_options_a_cell_is_named_after_its_recipe(tmp_path: Path) -> None:
    assert [one.cell.name for one in plan(tmp_path).cells] == ["demo-seed-0", "demo-seed-1"]


def test_two_options_with_the_same_last_word_are_named_in_full(tmp_path: Path) -> None:
    found = plan(tmp_path, ["classification.strategy=FedAvg", "diffusion.strategy=FedAvg"], seeds=[0])
    assert found.cells[0].cell.name == "classification.strategy-FedAvg-diffusion.strategy-FedAvg-seed-0"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("partition.alpha=0.1,1e-2", [0.1, 0.01]),
        ("diffusion.node-ema=true,false", [True, False]),
        ("classification.strategy=FedAvg, FedProx", ["FedAvg", "FedProx"]),
        ("classification.baselines=,local", ["", "local"]),
        ('diffusion.block-channels=["8,8","16,32"]', ["8,8", "16,32"]),
        ("data.limit=10", [10]),
    ],
)
def test_values_are_read_as_set_reads_them(text: str, values: list[OptionValue]) -> None:
    assert list(parse_varied([text], DEFAULTS).values()) == [values]


@pytest.mark.parametrize(
    ("varied", "said"),
    [
        (["classification.strateg=a"], "Option 'classification.strateg' does not exist. Did you mean"),
        (["partition.alpha"], "--vary takes key=a,b,c, got 'partition.alpha'"),
        (["partition.alpha="], "--vary takes key=a,b,c"),
        (["data.limit=1,2", "data.limit=3"], "--vary may name 'data.limit' once"),
        (["data.limit=1,1"], "different values of 'data.limit', got 1, 1"),
        (["classification.strategy=FedAvg,FedFoo"], "strategy-FedFoo-seed-0: .* must be FedAvg"),
        (["partition.alpha=0.1,-1"], "alpha--1-seed-0: Option 'partition.alpha' must be more than 0"),
        (["federation.min-nodes=2,3"], "min-nodes-3-seed-0: .* at most the number of nodes, 2, got 3"),
        (["seed=1,2"], "A grid sets 'seed' .* use --seeds and --first-seed"),
        (["run-name=a,b"], "A grid sets 'run-name' .* use --out"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_written(tmp_path: Path, varied: list[str], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        plan(tmp_path / "grid", varied)
    assert not (tmp_path / "grid").exists()


def test_an_option_that_is_set_and_varied_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"'data.limit' is both set and varied"):
        plan(tmp_path, ["data.limit=1,2"], ["data.limit=5"])


def test_images_that_no_node_could_use_are_refused_with_the_cell(tmp_path: Path) -> None:
    settings = ["tasks=classification", "classification.baselines="]
    grid = plan(
        tmp_path, ["classification.num-rounds=1,2"], [*settings, f"data.directory={tmp_path}/x", "data.source=mnist"]
    )
    with pytest.raises(Exception, match="num-rounds-1-seed-0: "):
        check_cells(grid)


def test_names_are_folders_whatever_the_values_hold() -> None:
    cells = make_cells("r", {"data.class-names": ["a/b", "a:b", "..", "", "x" * 300]}, [0])
    names = [cell.name for cell in cells]
    assert len(set(names)) == 5 and all("/" not in name and ":" not in name and ".." not in name for name in names)
    assert max(map(len, names)) < 120 and "class-names-none-seed-0" in names


def test_finished_cells_are_not_run_again_and_stopped_ones_are_resumed(tmp_path: Path) -> None:
    grid = plan(tmp_path, seeds=[0, 1, 2])
    write_run(grid, 0, "degraded")
    write_run(grid, 1, "failed")
    again = plan(tmp_path, seeds=[0, 1, 2])
    assert [one.state for one in again.cells] == ["finished", "half", "new"]
    assert [one.cell.seed for one in again.waiting] == [1, 2]
    assert again.cells[1].overrides["resume"] == str(tmp_path / "demo-seed-1")


def test_a_folder_with_a_run_of_other_options_is_refused(tmp_path: Path) -> None:
    write_run(plan(tmp_path), 1, "failed", {"classification.learning-rate": 0.5})
    with pytest.raises(OptionError, match=r"demo-seed-1: .* other options: classification.learning-rate \(was 0.5"):
        plan(tmp_path)


def test_a_damaged_run_costs_its_own_cell_only(tmp_path: Path) -> None:
    grid = plan(tmp_path)
    write_run(grid, 0, "failed")
    (tmp_path / "demo-seed-0" / "run.json").write_text("{")
    found = plan(tmp_path)
    assert [one.state for one in found.cells] == ["broken", "new"] and "run.json is damaged" in found.cells[0].problem
    assert [one.cell.seed for one in found.waiting] == [1]


def test_a_run_that_is_going_on_costs_its_own_cell_only(tmp_path: Path) -> None:
    with claim(tmp_path / "demo-seed-0", is_new=True):
        found = plan(tmp_path)
    assert [one.state for one in found.cells] == ["broken", "new"] and "still going on" in found.cells[0].problem


def test_seeds_and_values_may_be_added_to_a_grid(tmp_path: Path) -> None:
    first = plan(tmp_path, ["data.limit=100,200"], seeds=[0])
    write_grid(tmp_path, first.document)
    second = plan(tmp_path, ["data.limit=200,300"], seeds=[0, 1])
    write_grid(tmp_path, second.document)
    assert len(second.cells) == 4
    assert [cell.name for cell in read_grid(tmp_path).cells] == [
        "limit-100-seed-0", "limit-200-seed-0", "limit-300-seed-0", "limit-200-seed-1", "limit-300-seed-1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"settings": ["data.test-share=0.4"]}, r"data.test-share \(was 0.2, is 0.4\)"),
        ({"nodes": 3}, r"--nodes \(was 2, is 3\)"),
        ({"varied": ["data.limit=5,6"]}, r"--vary \(was \[\], is \['data.limit'\]\)"),
    ],
)
def test_another_grid_in_the_folder_is_refused(tmp_path: Path, other: dict[str, Any], said: str) -> None:
    write_grid(tmp_path, plan(tmp_path).document)
    with pytest.raises(RunFolderError, match=f"holds another grid: {said}"):
        plan(tmp_path, **other)


def test_the_same_command_finds_its_grid_again_and_another_one_does_not() -> None:
    one, more = plan(None).folder, plan(None, seeds=[0, 1, 2]).folder
    assert one == more and one.parent.name == "grids" and one.name.startswith("demo-")
    others = [plan(None, nodes=3), plan(None, settings=["data.limit=100"]), plan(None, ["data.limit=100,0"])]
    assert len({one, *(other.folder for other in others)}) == 4


def test_a_relative_folder_of_images_is_the_same_run_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["data.source=folder", "data.directory=images"]
    monkeypatch.chdir(tmp_path)
    grid = plan(tmp_path / "grid", settings=settings)
    assert grid.cells[0].overrides["data.directory"] == str(tmp_path / "images")
    write_run(grid, 0, "failed")
    assert plan(tmp_path / "grid", settings=settings).cells[0].state == "half"
