"""Run folders without a run: what a comparison reads, with figures that a test chooses."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fl_app.options.sections import OptionValue
from tests.options import run_config

COLUMNS = (
    "approach,reading,head,images,n,accuracy,accuracy-low,accuracy-high,balanced-accuracy,auc,macro-f1,home-n,"
    "home-accuracy"
)


def write_run(
    folder: Path,
    seed: int = 0,
    accuracy: float | str = 0.5,
    *,
    options: Mapping[str, OptionValue] | None = None,
    images: int = 100,
    own: float = 0.4,
    rounds: int = 3,
    state: str = "completed",
) -> Path:
    """Write a finished run of two sites and one task; `accuracy`: of the head that ships, `own`: of the own layer."""
    config = run_config({"tasks": "classification", "seed": seed, "recipe": "made-up", **(options or {})})
    folder.mkdir(parents=True)
    site = {"train": [5, 5], "validation": [2, 2], "test": [0, 0]}
    document = {
        "run-name": folder.name,
        "options": json.loads(json.dumps(config.to_flat())),
        "seed": seed,
        "nodes": {"a": site, "b": site},
    }
    (folder / "run.json").write_text(json.dumps(document))
    (folder / "status.json").write_text(json.dumps({"state": state, "reason": None, "updated": 1.0}))
    lines = [json.dumps(round_line(number, accuracy)) for number in range(1, rounds + 1)]
    (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    strategy = config.classification.strategy
    write_comparison(
        folder,
        f"{strategy},global,linear,test,{images},{own},,,{own},{own},{own},8,0.3",
        f"{strategy} + prototypes (ships),consistent,lda,test,{images},{accuracy},,,{accuracy},{accuracy},{accuracy},,",
    )
    return folder


def write_comparison(folder: Path, *rows: str) -> None:
    """Write comparison.csv with these rows."""
    (folder / "classification").mkdir(exist_ok=True)
    (folder / "classification" / "comparison.csv").write_text("\n".join([COLUMNS, *rows]) + "\n")


def round_line(number: int, accuracy: float | str) -> dict[str, Any]:
    """Return a line of metrics.jsonl: 1000 bytes down and 900 up, 2 s, and a loss that halves with each round."""
    node = {"outcome": "contributed", "images": 10.0, "seconds": 0.5}
    return {
        "task": "classification",
        "round": number,
        "num-rounds": 3,
        "outcome": "ok",
        "validated-round": number - 1,
        "validation-loss": 2.0**-number,
        "figures": {"accuracy": accuracy if isinstance(accuracy, float) else None},
        "seconds": 2.0,
        "bytes-down": 1000,
        "bytes-up": 900,
        "nodes": {"a": node, "b": node},
    }


def write_pairs(folder: Path, settings: Mapping[str, Mapping[int, float]]) -> list[Path]:
    """Write runs of strategies: {strategy: {seed: accuracy}}."""
    return [
        write_run(folder / f"{name}-seed-{seed}", seed, accuracy, options={"classification.strategy": name})
        for name, seeds in settings.items()
        for seed, accuracy in seeds.items()
    ]
