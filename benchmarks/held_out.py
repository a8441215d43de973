"""What the held-out images of finished runs say: a row for every classifier, and the mean of the runs of a setting.

This is what a search of settings chooses by. The figures are those that the nodes' sums gave in the last exchange of
prototypes, with the head that ships and with the network's own layer; no test image has a part in them.

    python -m benchmarks.held_out <folder>/breastmnist-search-*
"""

import argparse
import json
import re
from pathlib import Path

from benchmarks.output import Row, parser, run
from fl_app.errors import RunFolderError

_FIGURES = ("accuracy", "balanced-accuracy", "auc")


def measure(arguments: argparse.Namespace) -> list[Row]:
    """Return the rows of all runs, then the mean of each setting: runs whose names differ in the seed only."""
    rows = [row for folder in arguments.runs if folder.is_dir() for row in rows_of(folder)]
    settings: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        settings.setdefault((_setting(row["run"]), row["trained"]), []).append(row)
    return [*rows, *(_mean(*key, group) for key, group in settings.items())]


def rows_of(folder: Path) -> list[Row]:
    """Read every classifier that a run exported; raises RunFolderError if it exported none."""
    models = sorted(folder.glob("classification*/model/model.json"))
    if not models:
        raise RunFolderError(f"{folder} holds no exported classifier: the run has not ended well yet.")
    return [_row(folder.name, path) for path in models]


def _row(name: str, path: Path) -> Row:
    model = json.loads(path.read_text(encoding="utf-8"))
    found = {
        result["head"]: result["figures"]
        for result in model["record"]["results"]
        if result["part"] == "validation" and result["reading"] in ("global", model["reading"])
    }
    row: Row = {"run": name, "trained": path.parents[1].name, "ships": model["shipped"]}
    row |= {"n": found[model["shipped"]]["n"]}
    row |= {figure: found[model["shipped"]][figure] for figure in _FIGURES}
    return row | {f"{figure}, linear": found["linear"][figure] for figure in _FIGURES}


def _setting(name: str) -> str:
    return re.sub(r"-seed-\d+$", "", name)


def _mean(setting: str, trained: str, rows: list[Row]) -> Row:
    figures = [name for name in rows[0] if name not in ("run", "trained", "ships", "n")]
    means: Row = {"run": f"{setting}, mean of {len(rows)}", "trained": trained, "ships": "", "n": rows[0]["n"]}
    for name in figures:
        values = [row[name] for row in rows]
        means[name] = None if None in values else sum(values) / len(values)
    return means


def main() -> None:
    """Read the arguments and measure."""
    arguments = parser(__doc__)
    arguments.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder; files are passed over")
    run(measure, arguments.parse_args())


if __name__ == "__main__":
    main()
