"""What classifier-free guidance does to the figures of generated images: a row for each strength, over run folders.

Images are drawn from the exported model of each run, in the classes' shares of its test images, and compared with all
test images in one place, in pixels and in the features of the run's classifier if it has one.

    python -m benchmarks.guidance RUN… --guidance 1 1.5 2 3
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.models import open_exported, read_config
from fl_app.classification.model import read_classifier
from fl_app.classification.prediction import classify
from fl_app.data.images import ImageSet
from fl_app.data.loading import to_bytes
from fl_app.data.sources import load_split
from fl_app.metrics.generation import feature_sums, frechet_distance, neighbour_figures, neighbour_sums
from fl_app.quality.drawing import classes_to_draw
from fl_app.quality.features import Embedding, Pixels, set_features

CPU = torch.device("cpu")


def figures(run: Path, guidance: float, num_images: int) -> dict[str, float]:
    """Return the figures of a run's model under one strength of guidance, by name."""
    config, pipeline = read_config(run), open_exported(run)
    real = load_split(config.data, "test", config.seed)
    num_classes = len(real.class_names)
    classes = classes_to_draw(real.class_counts().numpy(), [True] * num_classes, num_images)
    drawn = to_bytes(pipeline(classes.tolist(), seed=config.seed, guidance_scale=guidance))
    generated = ImageSet(drawn, torch.from_numpy(classes), real.class_names)
    found: dict[str, float] = {}
    networks: dict[str, torch.nn.Module] = {"pixels": Pixels()}
    model = run / "classification" / "model"
    if model.is_dir():
        classifier = read_classifier(model)
        networks["classifier"] = Embedding(classifier.build_network())
        found["label accuracy"] = float((classify(classifier, drawn, None, CPU).labels == classes).mean())
    for name, network in networks.items():
        of_real, of_generated = (set_features(network, one, CPU) for one in (real, generated))
        neighbours = neighbour_figures(neighbour_sums(of_real, of_generated))
        found |= {f"{key} {name}": value for key, value in neighbours.items() if value is not None}
        sums = [
            feature_sums(features, one.labels.numpy(), num_classes)
            for features, one in ((of_real, real), (of_generated, generated))
        ]
        found[f"Fréchet {name}"] = frechet_distance(sums[0], sums[1]) or 0.0
    return found


def main() -> None:
    """Print a row for each strength: each figure's mean over the runs, and the runs' own."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("runs", type=Path, nargs="+")
    arguments.add_argument("--guidance", type=float, nargs="+", default=[1.0, 1.5, 2.0, 3.0])
    arguments.add_argument("--num-images", type=int, default=500)
    chosen = arguments.parse_args()
    names: list[str] = []
    for guidance in chosen.guidance:
        found = [figures(run, guidance, chosen.num_images) for run in chosen.runs]
        if not names:
            names = list(found[0])
            print(f"| guidance | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
        cells = [[one[name] for one in found] for name in names]
        texts = [f"{np.mean(cell):.3f} ({', '.join(f'{value:.3f}' for value in cell)})" for cell in cells]
        print(f"| {guidance:g} | {' | '.join(texts)} |", flush=True)


if __name__ == "__main__":
    main()
