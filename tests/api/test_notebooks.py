"""The notebooks in `examples/` run from the first cell to the last."""

import json
from typing import Any

import pytest

from fl_app import Run
from tests.api.conftest import EXAMPLES, execute


def test_the_first_notebook_trains_and_shows_figures_and_images(first_notebook: dict[str, Any]) -> None:
    assert first_notebook["run"].status().state == "completed"
    assert set(first_notebook["metrics"]["task"]) == {"diffusion", "classification", "classification-local"}
    assert len(first_notebook["images"]) == 8
    assert len(first_notebook["comparison"]) > 2


def test_the_second_notebook_compares_the_heads_of_the_first_ones_run(run: Run) -> None:
    found = execute("2-compare-heads.ipynb", {"RUN": None, "OUT": run.folder.parent})
    assert found["run"] == run
    assert len(found["by_head"]) == 2 * len(run.classifier().class_names)
    assert found["agreement"].between(0, 1).all()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_results(path: Any) -> None:
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
