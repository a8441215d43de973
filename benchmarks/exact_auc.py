"""AUCs of a run's exported classifiers on the public test set, beside what the bins of a federation make of them.

exact: every pair of images compared, by the logit of the class against the rest, and the mean over the classes.
binned: from the counts that nodes would send of the same images.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score

from benchmarks.models import read_config
from benchmarks.output import Row, parser, run
from fl_app.classification.measuring import embeddings
from fl_app.classification.model import read_classifier
from fl_app.data.images import ImageSet
from fl_app.data.sources import load_split
from fl_app.errors import RunFolderError
from fl_app.metrics.classification import figures, score_sums


def measure(arguments: argparse.Namespace) -> list[Row]:
    """Measure every run."""
    return [row for folder in arguments.runs for row in measure_run(folder)]


def measure_run(folder: Path) -> list[Row]:
    """Measure every head of every classifier that a run exported; raises RunFolderError where it exported none."""
    models = sorted(path.parent for path in folder.glob("classification*/model/model.json"))
    if not models:
        raise RunFolderError(f"{folder} holds no exported classifier: the run has not ended well yet.")
    config = read_config(folder)
    test = load_split(config.data, "test", config.seed)
    return [row for model in models for row in _measure_model(folder.name, model, test)]


def _measure_model(name: str, model: Path, test: ImageSet) -> list[Row]:
    classifier = read_classifier(model)
    parts = list(embeddings(classifier.build_network(), test, torch.device("cpu")))
    features, labels = (np.concatenate([part[which] for part in parts]) for which in (0, 1))
    rows: list[Row] = []
    for head in classifier.heads:
        scores = classifier.head(head).scores(features)
        binned = figures(score_sums(scores, labels))["auc"]
        is_shipped = " (ships)" if head == classifier.shipped else ""
        row = {"run": name, "trained": model.parent.name, "head": f"{head}{is_shipped}", "n": len(labels)}
        rows.append({**row, "exact": exact_auc(scores, labels), "binned": binned})
    return rows


def exact_auc(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the mean AUC of the classes, one against the rest; of two classes that of class 1.

    Args:
        scores: [N, K]. The logit of their softmax decides, and not the softmax, which is 1 in float64 for many.
        labels: [N]; each class has an image.
    """
    num_classes = scores.shape[1]
    classes = [1] if num_classes == 2 else range(num_classes)
    logits = [scores[:, label] - logsumexp(np.delete(scores, label, axis=1), axis=1) for label in range(num_classes)]
    return float(np.mean([roc_auc_score(labels == label, logits[label]) for label in classes]))


def main() -> None:
    """Read the arguments and measure."""
    arguments = parser(__doc__)
    arguments.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder")
    run(measure, arguments.parse_args())


if __name__ == "__main__":
    main()
