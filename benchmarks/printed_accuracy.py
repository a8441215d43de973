"""Is the printed accuracy that of the model? comparison.csv against the exported model, on an npz of one's own.

An npz is made of MedMNIST's breast images: its training and held-out parts have as many images of either class, its
test part stays as it is. For each seed the real server and three real nodes train on it. Then the exported model is
opened and classifies the npz's test images, read with numpy alone.

    python -m benchmarks.printed_accuracy --seeds 5
"""

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.local_grid import run_federation
from benchmarks.models import default_config
from benchmarks.output import Row, parser, run
from fl_app.classification.model import read_classifier
from fl_app.classification.prediction import classify
from fl_app.data.files import given_directory
from fl_app.errors import DataError
from fl_app.options.sections import OptionValue

Arrays = dict[str, NDArray[np.generic]]


def write_own_npz(source: Path, folder: Path) -> Path:
    """Write an npz with as many images of either class in `train` and in `val`, the first ones of each."""
    with np.load(source) as published:
        arrays: Arrays = {name: published[name] for name in published.files}
    for part in ("train", "val"):
        labels = arrays[f"{part}_labels"].reshape(-1)
        smallest = int(np.bincount(labels.astype(np.int64)).min())
        kept = np.sort(np.concatenate([np.flatnonzero(labels == label)[:smallest] for label in np.unique(labels)]))
        for what in ("images", "labels"):
            arrays[f"{part}_{what}"] = arrays[f"{part}_{what}"][kept]
    path = folder / "own.npz"
    np.savez(path, allow_pickle=False, **arrays)
    return path


def measure(arguments: argparse.Namespace) -> list[Row]:
    """Return a row for each seed: the head that ships, its printed and its exported accuracy, and their difference."""
    directory = given_directory(default_config({}).data)
    places = [directory / name for name in ("medmnist/breastmnist.npz", "breastmnist.npz")] if directory else []
    source = next((path for path in places if path.is_file()), None)
    if source is None:
        raise DataError("There is no breastmnist.npz: set FL_APP_DATA to the folder that holds medmnist/.")
    with tempfile.TemporaryDirectory() as temporary:
        (Path(temporary) / "images").mkdir()
        npz = write_own_npz(source, Path(temporary) / "images")
        return [_of_seed(seed, npz, Path(temporary) / "runs", arguments.rounds) for seed in range(arguments.seeds)]


def _of_seed(seed: int, npz: Path, runs: Path, num_rounds: int) -> Row:
    options: dict[str, OptionValue] = {
        "tasks": "classification",
        "seed": seed,
        "output-dir": str(runs),
        "run-name": f"seed-{seed}",
        "data.source": "folder",
        "data.directory": str(npz.parent),
        "data.class-names": "malignant,benign",
        "data.num-channels": 1,
        "data.image-size": 28,
        "classification.num-rounds": num_rounds,
    }
    run_federation(default_config(options), 3)
    found = runs / f"seed-{seed}" / "classification"
    with (found / "comparison.csv").open(encoding="utf-8", newline="") as file:
        (shipped,) = [row for row in csv.DictReader(file) if row["approach"].endswith("(ships)")]
    exported = _accuracy(found / "model", npz)
    printed = float(shipped["accuracy"])
    return {
        "seed": seed,
        "head": shipped["head"],
        "n": int(shipped["n"]),
        "printed": printed,
        "exported": exported,
        "difference": printed - exported,
    }


def _accuracy(model: Path, npz: Path) -> float:
    """Return the exported model's accuracy on the npz's test images."""
    with np.load(npz) as arrays:
        images, labels = arrays["test_images"], arrays["test_labels"].reshape(-1)
    found = classify(read_classifier(model), torch.from_numpy(images)[:, None], None, torch.device("cpu"))
    return float((found.labels == labels).mean())


def main() -> None:
    """Read the arguments, measure, print."""
    arguments = parser(__doc__)
    arguments.add_argument("--seeds", type=int, default=5, help="how many seeds, from 0 (default: 5)")
    arguments.add_argument("--rounds", type=int, default=10, help="rounds of a run (default: 10)")
    run(measure, arguments.parse_args())


if __name__ == "__main__":
    main()
