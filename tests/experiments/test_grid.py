"""The plan: complete, and readable by the app."""

from collections import Counter
from pathlib import Path

import pytest

from experiments.prototypes.__main__ import chosen
from experiments.prototypes.claims import CLAIMS
from experiments.prototypes.grid import SEEDS, Cell, all_cells


def test_every_cell_has_a_name_of_its_own() -> None:
    names = [cell.name for cell in all_cells()]
    assert len(set(names)) == len(names)


def test_the_plan_has_all_cells() -> None:
    parts = Counter(cell.part for cell in all_cells())
    assert parts == {"heads": 2 * 4 * 2 * 5, "rounds": 5, "medical": 5}


def test_the_cells_of_one_seed_are_the_whole_plan() -> None:
    cells = all_cells()
    first = cells[: len(cells) // len(SEEDS)]
    assert {cell.seed for cell in first} == {0}
    assert {cell.name[:-1] for cell in first} == {cell.name[:-1] for cell in cells}


@pytest.mark.parametrize("cell", all_cells()[: len(all_cells()) // len(SEEDS)], ids=lambda cell: cell.name)
def test_the_app_takes_the_options_of_a_cell(cell: Cell, tmp_path: Path) -> None:
    options = cell.config(tmp_path).to_flat()
    assert options["seed"] == cell.seed and options["classification.momentum"] == 0.5
    assert options["output-dir"] == str(tmp_path) and options["resume"] == ""


def test_the_exchanges_are_after_the_planned_rounds(tmp_path: Path) -> None:
    for cell in all_cells():
        assert cell.config(tmp_path).classification.exchange_rounds == set(cell.rounds)


def test_a_cell_survives_its_json() -> None:
    assert all(Cell.from_json(cell.to_json()) == cell for cell in all_cells())


def test_every_claim_is_about_cells_that_are_run() -> None:
    cells = [(cell.part, cell.source, cell.split, cell.strategy, cell.rounds) for cell in all_cells()]
    run = {(*where, number) for *where, rounds in cells for number in rounds}
    assert {place for claim in CLAIMS for place in claim.places} <= run


def test_only_chooses_by_the_whole_name() -> None:
    assert [cell.seed for cell in chosen("medical-*")] == list(SEEDS)
    assert chosen("medical") == []
