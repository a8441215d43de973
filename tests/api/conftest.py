"""A run that the first notebook makes, small and in this process: what the other tests of the interface look at."""

import json
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fl_app import Run
from fl_app.options.run import RunConfig, default_options
from fl_app.simulation import follow
from fl_app.simulation.flower import FlowerStatus
from tests.federation import run_federation

EXAMPLES = Path(__file__).parents[2] / "examples"

_SMALL = {
    "data.limit": 200,
    "federation.wait-seconds": 0.2,
    "partition.scheme": "iid",
    "diffusion.num-rounds": 2,
    "diffusion.epochs": 0.5,
    "diffusion.block-channels": "8,8",
    "diffusion.mid-attention": False,
    "sampling.num-steps": 2,
    "sampling.images-per-class": 1,
    "classification.num-rounds": 2,
    "classification.embedding-size": 8,
    "classification.learning-rate": 0.01,
    "classification.baselines": ["local"],
}


@dataclass(frozen=True)
class Ended:
    """A simulation that has ended well."""

    log: Path

    def is_running(self) -> bool:
        return False

    def read_status(self) -> FlowerStatus:
        return FlowerStatus("finished:completed", "")


@contextmanager
def in_one_process(app: Path, run_config: str, num_nodes: int, gpu_share: float) -> Iterator[Ended]:
    """Stand in for Flower's processes, which take half a minute: the real server and the real ClientApp, here."""
    options = default_options(app / "pyproject.toml") | tomllib.loads(run_config)
    run_federation(RunConfig.from_flat(options), num_nodes)
    log = Path(options["output-dir"]) / "log"
    log.write_text("what Flower printed\n")
    yield Ended(log)


def execute(notebook: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Execute a notebook's code cells in one namespace; `parameters` come after the cell with that tag."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    document = json.loads((EXAMPLES / notebook).read_text(encoding="utf-8"))
    for number, cell in enumerate(document["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{notebook}, cell {number}", "exec"), namespace)
            if "parameters" in cell["metadata"].get("tags", []):
                assert parameters.keys() <= namespace.keys()
                namespace |= parameters
    return namespace


@pytest.fixture(scope="session")
def first_notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "Agg")
        patch.setattr(follow, "simulate", in_one_process)
        out = str(tmp_path_factory.mktemp("runs"))
        yield execute("1-run-the-demo.ipynb", {"OPTIONS": _SMALL, "NODES": 2, "OUT": out})


@pytest.fixture(scope="session")
def run(first_notebook: dict[str, Any]) -> Run:
    found: Run = first_notebook["run"]
    return found
