"""Quality of the images that runs draw, over samplers, step counts and guidance scales.

The row `real` above a run's rows shows what real images reach in the place of the samples. Pixels run from 0 to 16.
Features are the pixels for digits of 8 px, the 64 features of `benchmarks/features.py` for all other sets.

label accuracy      share of the samples that a judge trained on all real training images reads as the asked class: an
                    SVM for digits of 8 px, else the feature network. `real`: the judge on all real test images
trained on them     accuracy on all real test images of a classifier of that kind trained on the samples only. `real`:
                    trained on as many of the run's real training images
std within class    std of a pixel among the images of a class, mean over pixels and classes. `real`: the run's
                    training images
variance kept       variance within a class, sum over pixels, mean over classes, as a share of the real one
precision, recall   Kynkäänniemi et al. 2019, k = 3, in the features: `n test` samples against as many real test images
coverage            Naeem et al. 2020, k = 5, likewise. `real`, all three: as many of the run's training images in the
                    place of the samples
Fréchet distances   to the run's real training images (`n train`). `real`: of real test images (`n test`), the floor
seconds             for each image drawn: wall time, and that of the processor
evaluations         images that pass through the network for each image drawn: guidance costs twice

The figures depend on the number of images: compare rows of equal numbers. A setting that a sampler refuses is left out.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.features import feature_moments
from benchmarks.judges import Judge, judge_of, learn_from, pixels_of
from benchmarks.models import balanced_labels, open_exported, read_config
from benchmarks.output import Row, cell, parser, run
from benchmarks.sample_figures import overlap, within_class_std, within_class_variance
from fl_app.data.images import ImageSet
from fl_app.data.loading import to_bytes
from fl_app.data.partition import stratified_choice
from fl_app.data.sources import load_split
from fl_app.diffusion.pipeline import ClassConditionalPipeline
from fl_app.errors import OptionError
from fl_app.metrics.generation import frechet_distance
from fl_app.options.images import DataOptions
from fl_app.plugins import built_in
from fl_app.seeding import numpy_generator_for
from fl_app.sums import Sums


@dataclass(frozen=True)
class RealSide:
    """All that the rows of one data set share.

    Attributes:
        options: of the data.
        train: the run's training images.
        test: all test images.
        judge: trained on the whole training set.
        near: the test images' features for precision, recall and coverage: [n, D].
        feature_moments: of the training images' features.
        pixel_moments: of the training images' pixels.
        variance: within a class, of the training images.
        row: what real images reach in the place of samples.
    """

    options: DataOptions
    train: ImageSet
    test: ImageSet
    judge: Judge
    near: NDArray[np.float64]
    feature_moments: Sums
    pixel_moments: Sums
    variance: float
    row: Row


@dataclass(frozen=True)
class Drawn:
    """Samples and their price.

    Attributes:
        images: uint8, with the classes that were asked for.
        seconds: wall time an image.
        processor_seconds: of this process, an image.
        evaluations: images that went through the network for each image drawn.
    """

    images: ImageSet
    seconds: float
    processor_seconds: float
    evaluations: float


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield a row of real images for each data set, and one for each run, sampler, step count and guidance scale."""
    known: dict[str, RealSide] = {}
    for folder in arguments.runs:
        config = read_config(folder)
        pipeline = open_exported(folder).to(arguments.device)
        key = f"{config.data.model_dump_json()} {config.seed if config.data.limit else 0}"
        if key not in known:
            known[key] = real_side(config.data, config.seed, arguments)
            yield _say(known[key].row)
        for sampler, steps, guidance in _settings(pipeline, arguments):
            try:
                drawn = draw(pipeline, known[key].train, sampler, steps, guidance, arguments)
            except OptionError as error:
                print(f"left out: {folder.name}, {sampler}, {steps} steps: {error}", file=sys.stderr, flush=True)
                continue
            setting: Row = {"run": folder.name, "sampler": sampler, "steps": steps, "guidance": guidance}
            price: Row = {
                "seconds": drawn.seconds,
                "processor seconds": drawn.processor_seconds,
                "evaluations": drawn.evaluations,
            }
            yield _say(setting | judge_samples(known[key], drawn.images, arguments.seed) | price)


def real_side(options: DataOptions, seed: int, arguments: argparse.Namespace) -> RealSide:
    """Load a run's real images, train their judge and measure what they reach."""
    whole = load_split(options.model_copy(update={"limit": 0}), "train", seed)
    train, test = load_split(options, "train", seed), load_split(options, "test", seed)
    cache = None
    if arguments.cache is not None:
        arguments.cache.mkdir(parents=True, exist_ok=True)
        cache = arguments.cache / f"{options.source}-{whole.images.shape[-1]}px-{arguments.epochs}epochs.safetensors"
    judge = judge_of(options, whole, arguments.epochs, seed=0, cache=cache)
    few_train, few_test = _some(train, arguments.num_images), _some(test, arguments.num_images)
    near = judge.features_of(few_test.images)
    moments = feature_moments(judge.features_of(train.images))
    pixels = pixels_of(train.images)
    pixel_moments = feature_moments(pixels)
    shared = overlap(near, judge.features_of(_some(few_train, len(near)).images))
    row: Row = {
        "run": f"real {options.source} {whole.images.shape[-1]} px",
        "sampler": "",
        "steps": "",
        "guidance": "",
        "n samples": len(few_train),
        "label accuracy": _accuracy(judge, test),
        "trained on them": _accuracy(learn_from(options, few_train, arguments.seed), test),
        "std within class": within_class_std(pixels, train.labels.numpy()),
        "variance kept": 1.0,
        "precision": shared.precision,
        "recall": shared.recall,
        "coverage": shared.coverage,
        "Fréchet, features": frechet_distance(moments, feature_moments(near)),
        "Fréchet, pixels": frechet_distance(pixel_moments, feature_moments(pixels_of(few_test.images))),
        "n train": len(train),
        "n test": len(few_test),
        "n test for accuracy": len(test),
        "seconds": "",
        "processor seconds": "",
        "evaluations": "",
    }
    variance = within_class_variance(pixels, train.labels.numpy())
    return RealSide(options, train, test, judge, near, moments, pixel_moments, variance, row)


def draw(
    pipeline: ClassConditionalPipeline,
    train: ImageSet,
    sampler: str,
    steps: int,
    guidance: float,
    arguments: argparse.Namespace,
) -> Drawn:
    """Draw samples whose classes have the shares of the training images.

    Raises:
        OptionError: the pipeline refuses the setting.
    """
    labels = balanced_labels(train.labels, arguments.num_images)
    passed: list[int] = []
    hook = pipeline.unet.register_forward_pre_hook(lambda unet, inputs: passed.append(len(inputs[0])))
    started, processor_started = time.perf_counter(), time.process_time()
    try:
        samples = pipeline(
            labels,
            seed=arguments.seed,
            batch_size=arguments.batch_size,
            sampler=sampler,
            num_steps=steps,
            guidance_scale=guidance,
        )
    finally:
        hook.remove()
    seconds, processor_seconds = time.perf_counter() - started, time.process_time() - processor_started
    images, count = ImageSet(to_bytes(samples), torch.tensor(labels), train.class_names), len(labels)
    return Drawn(images, seconds / count, processor_seconds / count, sum(passed) / count)


def judge_samples(real: RealSide, samples: ImageSet, seed: int) -> Row:
    """Return the figures of samples against the real side; the seed is that of the classifier trained on them."""
    features, pixels = real.judge.features_of(samples.images), pixels_of(samples.images)
    labels = samples.labels.numpy()
    shared = overlap(real.near, real.judge.features_of(_some(samples, len(real.near)).images))
    return {
        "n samples": len(samples),
        "label accuracy": _accuracy(real.judge, samples),
        "trained on them": _accuracy(learn_from(real.options, samples, seed), real.test),
        "std within class": within_class_std(pixels, labels),
        "variance kept": within_class_variance(pixels, labels) / real.variance,
        "precision": shared.precision,
        "recall": shared.recall,
        "coverage": shared.coverage,
        "Fréchet, features": frechet_distance(real.feature_moments, feature_moments(features)),
        "Fréchet, pixels": frechet_distance(real.pixel_moments, feature_moments(pixels)),
        "n train": len(real.train),
        "n test": len(real.near),
        "n test for accuracy": len(real.test),
    }


def _settings(pipeline: ClassConditionalPipeline, arguments: argparse.Namespace) -> Iterator[tuple[str, int, float]]:
    """Yield the settings of the sweep; what the command line leaves out is the exported model's default."""
    return itertools.product(
        arguments.sampler or [pipeline.config.sampler],
        arguments.steps or [pipeline.config.num_steps],
        arguments.guidance or [pipeline.config.guidance_scale],
    )


def _some(images: ImageSet, count: int) -> ImageSet:
    """Draw that many images, the same share of each class; all of them if there are no more."""
    if count >= len(images):
        return images
    chosen = stratified_choice(images.labels.numpy(), count, numpy_generator_for(0, "floor"))
    return images.select(torch.from_numpy(chosen))


def _accuracy(judge: Judge, images: ImageSet) -> float:
    return float(np.mean(judge.classes_of(images.images) == images.labels.numpy()))


def _say(row: Row) -> Row:
    print("; ".join(f"{name} {cell(value)}" for name, value in row.items() if value != ""), flush=True)
    return row


def main() -> None:
    """Read the arguments and measure."""
    arguments = parser(__doc__)
    arguments.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder with an exported model")
    arguments.add_argument("--sampler", nargs="+", choices=built_in("samplers"), help="default: the model's")
    arguments.add_argument("--steps", nargs="+", type=int, help="denoising steps (default: the model's)")
    arguments.add_argument("--guidance", nargs="+", type=float, help="guidance scales (default: the model's)")
    arguments.add_argument("--num-images", type=int, default=1000, help="samples a row (default: 1000)")
    arguments.add_argument("--seed", type=int, default=0, help="of the samples and of what is trained on them")
    arguments.add_argument("--epochs", type=int, default=2, help="training of the feature network (default: 2)")
    arguments.add_argument("--cache", type=Path, metavar="FOLDER", help="keeps the trained feature networks")
    arguments.add_argument("--batch-size", type=int, default=250)
    arguments.add_argument("--device", default="cpu")
    run(measure, arguments.parse_args())


if __name__ == "__main__":
    main()
