"""Quality of a run's samples of `digits`, by support vector machines on the pixels.

label accuracy: share of the samples that an SVM trained on the real training images reads as the asked class.
real accuracy: the same SVM on real test images, which no model has seen.
trained on samples: accuracy on the real test images of an SVM that has seen samples only.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.svm import SVC
from torch import Tensor

from benchmarks.models import balanced_labels, open_exported, read_config
from benchmarks.output import Row, parser, run
from fl_app.data.loading import to_bytes
from fl_app.data.sources import load_split
from fl_app.errors import OptionError

_SIDE = 8  # gamma below belongs to 8 x 8 pixels of 0 to 16


def measure(arguments: argparse.Namespace) -> list[Row]:
    """Measure every run."""
    return [measure_run(folder, arguments.num_images, arguments.seed) for folder in arguments.runs]


def measure_run(folder: Path, num_images: int, seed: int) -> Row:
    """Draw samples from a run's exported model by its own defaults, as many of each class, and judge them."""
    config = read_config(folder)
    whole = config.data.model_copy(update={"limit": 0})
    train, test = load_split(whole, "train", config.seed), load_split(whole, "test", config.seed)
    if config.data.source != "digits" or train.images.shape[-1] != _SIDE:
        raise OptionError(
            f"This benchmark reads runs on digits of {_SIDE} px, {folder} is on "
            f"{config.data.source} of {train.images.shape[-1]} px."
        )
    labels = balanced_labels(train.labels.unique(), num_images)
    samples = _pixels(to_bytes(open_exported(folder)(labels, seed=seed)))
    judge = _svm().fit(_pixels(train.images), train.labels.numpy())
    learner = _svm().fit(samples, labels)
    real, truth = _pixels(test.images), test.labels.numpy()
    return {
        "run": folder.name,
        "n samples": len(labels),
        "label accuracy": float(np.mean(judge.predict(samples) == np.array(labels))),
        "n real test": len(truth),
        "real accuracy": float(np.mean(judge.predict(real) == truth)),
        "trained on samples": float(np.mean(learner.predict(real) == truth)),
    }


def _svm() -> SVC:
    return SVC(gamma=0.001, C=10)


def _pixels(images: Tensor) -> NDArray[np.float64]:
    """Return [N, 64] in 0 to 16, the set's own scale, of [N, 1, 8, 8] uint8."""
    return images.flatten(1).numpy().astype(np.float64) * (16 / 255)


def main() -> None:
    """Read the arguments and measure."""
    arguments = parser(__doc__)
    arguments.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder")
    arguments.add_argument("--num-images", type=int, default=1000, help="samples in all (default: 1000)")
    arguments.add_argument("--seed", type=int, default=0, help="of the samples")
    run(measure, arguments.parse_args())


if __name__ == "__main__":
    main()
