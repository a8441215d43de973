"""What a run's nodes summed up, held to the same images in one place.

largest difference: between an array that the federation added up and the same array measured at once over all images,
over the largest number in it. Equal sums make equal prototypes and heads, whatever the split.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.models import read_config
from benchmarks.output import Row, parser, run
from fl_app.classification.model import read_classifier
from fl_app.classification.moments import measure_moments
from fl_app.errors import RunFolderError
from fl_app.node.images import load_pooled
from fl_app.options.node import NodeConfig
from fl_app.runs.run_json import read_document

_KEYS = ("count", "sum", "outer")


def measure(arguments: argparse.Namespace) -> list[Row]:
    """Measure every run."""
    return [row for folder in arguments.runs for row in measure_run(folder)]


def measure_run(folder: Path) -> list[Row]:
    """Compare the exported sums of a finished simulation of the reading `consistent` with those over all its images.

    Raises:
        RunFolderError: the run has not exported a classifier, or measured it with the nodes' own networks.
    """
    classifier = read_classifier(folder / "classification" / "model")
    if classifier.reading != "consistent":
        raise RunFolderError(f"The sums of {folder} were measured with the nodes' own networks: no pooled ones exist.")
    num_nodes = len(read_document(folder).nodes)
    node = NodeConfig.from_flat({"partition-id": 0, "num-partitions": num_nodes})
    images = load_pooled(read_config(folder), node).train
    at_once = measure_moments(classifier.build_network(), images, torch.device("cpu"), min_class_count=1)
    prototypes = at_once["sum"] / np.maximum(at_once["count"], 1.0)[:, None]
    pairs = {key: (classifier.pooled[key], at_once[key]) for key in _KEYS}
    pairs["prototypes"] = (classifier.prototypes[classifier.known], prototypes[classifier.known])
    return [
        {"run": folder.name, "array": key, "nodes": num_nodes, "images": len(images), "largest difference": difference}
        for key, (federated, pooled) in pairs.items()
        if (difference := relative_difference(federated, pooled)) is not None
    ]


def relative_difference(found: NDArray[np.float64], expected: NDArray[np.float64]) -> float | None:
    """Return the largest difference of two arrays over the largest number of the second; None where that is 0."""
    scale = np.abs(expected).max(initial=0.0)
    return float(np.abs(found - expected).max() / scale) if scale > 0 else None


def main() -> None:
    """Read the arguments and measure."""
    arguments = parser(__doc__)
    arguments.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder")
    run(measure, arguments.parse_args())


if __name__ == "__main__":
    main()
