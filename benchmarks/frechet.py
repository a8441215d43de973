"""Fréchet distance of a run's samples to the real training images of its options.

Features: a small classifier of the run's source and image size, trained on the source's whole training set, seeded.
Distances in its 64 features compare among runs of one source and size, and with nothing else. The floor is the
distance of as many real test images to the same real training images. A name with a * is what the run exported.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.features import Features, load_features
from benchmarks.models import CHECKPOINTED, EXPORTED, balanced_labels, open_models, read_config
from benchmarks.output import Row, cell, parser, run
from fl_app.data.partition import stratified_choice
from fl_app.data.sources import load_split
from fl_app.metrics.generation import frechet_distance
from fl_app.plugins import built_in
from fl_app.seeding import numpy_generator_for
from fl_app.sums import Sums


def measure(arguments: argparse.Namespace) -> list[Row]:
    """Measure every wanted set of weights of every run."""
    rows: list[Row] = []
    known: dict[tuple[str, int], Features] = {}
    for folder in arguments.runs:
        config = read_config(folder)
        real = load_split(config.data, "train", config.seed)
        key = (config.data.source, real.images.shape[-1])
        if key not in known:
            known[key] = load_features(config.data, arguments.epochs, arguments.feature_seed, arguments.features)
            print(f"features of {key[0]}, {key[1]} px: test accuracy {known[key].accuracy:.3f}", flush=True)
        moments = known[key].of_images(real)
        floor = _floor(known[key], moments, folder, arguments.num_images)
        labels = balanced_labels(real.labels, arguments.num_images)
        for name, round_number, pipeline in open_models(folder, arguments.weights):
            started = time.perf_counter()
            samples: Tensor = pipeline.to(arguments.device)(
                labels,
                seed=arguments.seed,
                batch_size=arguments.batch_size,
                sampler=arguments.sampler,
                num_steps=arguments.steps,
                guidance_scale=arguments.guidance,
            )
            row = {
                "run": folder.name,
                "weights": name,
                "round": round_number,
                "sampler": arguments.sampler or pipeline.config.sampler,
                "steps": arguments.steps or pipeline.config.num_steps or "the sampler's own",
                "guidance": pipeline.config.guidance_scale if arguments.guidance is None else arguments.guidance,
                "n real": len(real),
                "n generated": len(samples),
                "distance": frechet_distance(moments, known[key].of_samples(samples)),
                "floor": floor,
                "feature accuracy": known[key].accuracy,
                "seconds": time.perf_counter() - started,
            }
            rows.append(row)
            print(folder.name, name, f"round {round_number}:", cell(row["distance"]), "floor", cell(floor), flush=True)
    return rows


def _floor(features: Features, real: Sums, folder: Path, num_images: int) -> float | None:
    """Return the distance of real test images, as many as are generated where there are so many."""
    config = read_config(folder)
    test = load_split(config.data, "test", config.seed)
    if num_images < len(test):
        chosen = stratified_choice(test.labels.numpy(), num_images, numpy_generator_for(0, "floor"))
        test = test.select(torch.from_numpy(chosen))
    return frechet_distance(real, features.of_images(test))


def main() -> None:
    """Read the arguments and measure."""
    arguments = parser(__doc__)
    arguments.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder")
    arguments.add_argument("--weights", choices=[*CHECKPOINTED, EXPORTED, "all"], default="all")
    arguments.add_argument("--num-images", type=int, default=5000, help="images to draw (default: 5000)")
    arguments.add_argument("--features", type=Path, metavar="FILE", help="safetensors file that keeps the features")
    arguments.add_argument("--epochs", type=int, default=2, help="training of the features (default: 2)")
    arguments.add_argument("--feature-seed", type=int, default=0)
    arguments.add_argument("--seed", type=int, default=0, help="of the samples")
    arguments.add_argument("--sampler", choices=built_in("samplers"), help="default: the run's")
    arguments.add_argument("--steps", type=int, help="denoising steps (default: the run's)")
    arguments.add_argument("--guidance", type=float, help="guidance scale (default: the run's)")
    arguments.add_argument("--batch-size", type=int, default=250)
    arguments.add_argument("--device", default="cpu")
    run(measure, arguments.parse_args())


if __name__ == "__main__":
    main()
