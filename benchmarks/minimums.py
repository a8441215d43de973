"""What do a hospital's minimums cost? Simulations without minimums, and with those that hospitals have.

Trains the classifiers of the recipes `demo` and `breastmnist`, five nodes each, with `partition.min-images`,
`min-held-out` and `min-class-count` of 1, and of 20, 5 and 5. The baselines are left out.

    python -m benchmarks.minimums --seeds 3
"""

import argparse
import csv
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.local_grid import run_federation
from benchmarks.models import default_config
from benchmarks.output import Row, parser, run
from fl_app.options.sections import OptionValue
from fl_app.runs.folder import RunFolder, read_status
from fl_app.runs.run_json import read_document
from fl_app.simulation.app import read_recipe

ROOT = Path(__file__).parents[1]
_MINIMUMS: dict[str, dict[str, OptionValue]] = {
    "1, 1, 1": {},
    "20, 5, 5": {"partition.min-images": 20, "partition.min-held-out": 5, "partition.min-class-count": 5},
}


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each recipe, seed and set of minimums: accuracies on the test images, and what was withheld."""
    for recipe in ("demo", "breastmnist"):
        for seed in range(arguments.seeds):
            for minimums, options in _MINIMUMS.items():
                with tempfile.TemporaryDirectory() as folder:
                    own: dict[str, OptionValue] = {
                        "tasks": "classification",
                        "classification.baselines": "",
                        "seed": seed,
                        "output-dir": folder,
                        "run-name": "run",
                    }
                    run_federation(default_config({**read_recipe(recipe, ROOT), **own, **options}), 5)
                    yield {"recipe": recipe, "seed": seed, "minimums": minimums, **_figures(Path(folder) / "run")}


def _figures(folder: Path) -> Row:
    with (folder / "classification" / "comparison.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    shipped = next(row for row in rows if row["approach"].endswith("(ships)"))
    sites = read_document(folder).nodes.values()
    return {
        "state": read_status(RunFolder(folder)).state,
        "linear": float(next(row["accuracy"] for row in rows if row["head"] == "linear")),
        "lda": float(next(row["accuracy"] for row in rows if row["head"] == "lda")),
        "ships": shipped["head"],
        "shipped": float(shipped["accuracy"]),
        "training images": sum(sum(counts["train"]) for counts in sites),
        "held-out images": sum(sum(counts["validation"]) for counts in sites),
    }


if __name__ == "__main__":
    own = parser(__doc__)
    own.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0 (default: 3)")
    run(measure, own.parse_args())
