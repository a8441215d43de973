"""How useful the images that runs draw are: train on generated images, test on real ones.

For each seed three classifiers with the run's classification network and options, whether or not the run trained one,
from the same weights and for the same number of steps: on generated images only, on as many of the run's real training
images, and on both. Each one's accuracy on all real test images, which nothing was trained on. A seed draws the
samples, the real images, the weights and the order of the batches anew; the trained diffusion model stays the same. The
last row of a run is the mean over seeds, with the 95 % interval of the ratio by Student's t.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.models import balanced_labels, open_exported, read_config
from benchmarks.output import Row, parser, run
from fl_app.classification.task import ClassificationTask
from fl_app.data.images import DatasetInfo, ImageSet
from fl_app.data.loading import to_bytes
from fl_app.data.sources import load_split
from fl_app.grids.estimates import estimate
from fl_app.options.run import PassPlan
from fl_app.quality.figure import TRAINED_ON
from fl_app.quality.usefulness import NUM_STEPS, usefulness

RATIO = "synthetic over real"


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each run and seed, and the mean over the seeds of each run."""
    for folder in arguments.runs:
        rows = []
        for row in measure_run(folder, arguments):
            print("; ".join(f"{name} {value}" for name, value in row.items() if value != ""), flush=True)
            rows.append(row)
            yield row
        if len(rows) > 1:
            ratio = estimate([row[RATIO] for row in rows])
            means = {name: estimate([row[name] for row in rows]).mean for name in TRAINED_ON}
            yield {**rows[0], "seed": "mean", **means, RATIO: ratio.mean, "low": ratio.low, "high": ratio.high}


def measure_run(folder: Path, arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each seed of a run."""
    config = read_config(folder)
    pipeline = open_exported(folder).to(arguments.device)
    train, test = load_split(config.data, "train", config.seed), load_split(config.data, "test", config.seed)
    info = DatasetInfo(train.class_names, train.images.shape[1], train.images.shape[-1])
    task = ClassificationTask(PassPlan("classification", config.classification), info)
    labels = balanced_labels(train.labels, min(arguments.num_images, len(train)))
    for seed in arguments.seeds:
        samples = to_bytes(pipeline(labels, seed=seed, guidance_scale=arguments.guidance))
        generated = ImageSet(samples, torch.tensor(labels), train.class_names)
        sums = usefulness(
            task,
            train,
            generated,
            test,
            device=torch.device(arguments.device),
            seed=seed,
            site="",
            num_steps=arguments.steps,
        )
        found = {name: _accuracy(sums[name]) for name in TRAINED_ON}
        ratio = found["synthetic"] / found["real"]
        row: Row = {"run": folder.name, "seed": str(seed), "n each": len(labels), "n test": len(test)}
        yield row | found | {RATIO: ratio, "low": "", "high": ""}


def _accuracy(counts: NDArray[np.float64]) -> float:
    return float(counts[0].sum() / counts[1].sum())


def main() -> None:
    """Read the arguments and measure."""
    arguments = parser(__doc__)
    arguments.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder with an exported model")
    arguments.add_argument(
        "--num-images", type=int, default=1000, help="samples, and real images; at most the training images"
    )
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="(default: 0 1 2)")
    arguments.add_argument("--steps", type=int, default=NUM_STEPS, help=f"of each classifier (default: {NUM_STEPS})")
    arguments.add_argument("--guidance", type=float, help="of the samples (default: the exported model's)")
    arguments.add_argument("--device", default="cpu")
    run(measure, arguments.parse_args())


if __name__ == "__main__":
    main()
