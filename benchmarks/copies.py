"""Measures the search for copies: what it finds in models that repeat their images, and its false alarms.

For each seed a small U-Net is trained long on 64 digits and draws 200 images, which are compared with these 64 and with
300 digits that it has not seen. For the false alarms, real digits stand in the place of generated images: 200 of them
are compared with 260 others, as if these had been trained on, and 145 more are the held-out images. The U-Net of the
features has seen none of these; it is once that of the seed, and once one with its initial weights. In smaller draws of
the same three sets, a share of the 200 is replaced by training images: how often is that found? Last, real digits are
shared out to several sites, and a share of all that they draw is training images of any one of them.

    python -m benchmarks.copies
"""

import argparse
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import UNet2DModel
from numpy.typing import NDArray

from benchmarks.membership import NUM_OTHERS, NUM_TRAINED, small_config, train
from fl_app.data.digits import read_digits
from fl_app.data.images import ImageSet
from fl_app.data.sources import dataset_info
from fl_app.diffusion.features import middle_features
from fl_app.diffusion.process import noise_schedule
from fl_app.diffusion.task import DiffusionTask
from fl_app.metrics.audited import Copies
from fl_app.metrics.copies import judge_copies
from fl_app.metrics.nearest import DRAWN, SPACES, blank_copies, copy_sums, neighbours
from fl_app.options.run import RunConfig
from fl_app.quality.drawing import classes_to_draw
from fl_app.quality.features import Pixels, set_features
from fl_app.seeding import numpy_generator_for
from fl_app.tasks import build_task, initial_weights

NUM_DRAWN = 200
NULL = (260, NUM_DRAWN, 145)  # in place of training, generated and held-out images
SMALL = ((20, 50, 5), (64, 100, 16))
DRAWS = 100  # of small sets, for each seed
PLANTED = (0.05, 0.1, 0.2)
SITES = ((5, 150, 16), (10, 90, 10))  # number of sites, training and held-out images of each
SPREAD = (0.0, 0.2, 0.4, 0.6)
DELTAS = (0.2, 0.3, 0.4, 0.5)

Features = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]


@dataclass(frozen=True)
class Found:
    """What one seed gave.

    Attributes:
        copies: of the model that was trained long.
        null: of real images, by network: `trained`, `initial`.
        small: false alarms by size of the three sets.
        planted: verdict by share of planted copies.
        spread: the same by number of sites.
        repeated: share of near copies among real images, by space and delta.
    """

    copies: Copies
    null: dict[str, Copies]
    small: dict[tuple[int, int, int], int]
    planted: dict[float, str]
    spread: dict[tuple[int, float], str]
    repeated: dict[tuple[str, float], float]


def measure(seed: int, epochs: float) -> Found:
    """Train a model on 64 digits, and look for copies among its images and among real ones."""
    config = small_config(seed, epochs)
    digits = read_digits("train")
    order = torch.from_numpy(numpy_generator_for(seed, "copies").permutation(len(digits)))
    bounds = itertools.accumulate((NUM_TRAINED, NUM_OTHERS, *NULL), initial=0)
    trained, others, *null = (digits.select(order[a:b]) for a, b in itertools.pairwise(bounds))
    model, _ = train(config, trained)
    copies = judge(features_of(model, draw(config, model, trained), trained, others))
    initial = untrained(config)
    real = {
        name: features_of(net, null[1], null[0], null[2]) for name, net in (("trained", model), ("initial", initial))
    }
    generator = numpy_generator_for(seed, "small sets")
    return Found(
        copies,
        {name: judge(features) for name, features in real.items()},
        {size: sum(is_false_alarm(real["trained"], size, generator) for _ in range(DRAWS)) for size in SMALL},
        {share: judge(planted(real["trained"], share)).verdict for share in PLANTED},
        spread(model, digits.select(order[NUM_TRAINED:]), generator),
        {
            (space, delta): float((neighbours(found[2], found[1]).ratio <= delta).mean())
            for space, found in real["trained"].items()
            for delta in DELTAS
        },
    )


def untrained(config: RunConfig) -> UNet2DModel:
    """Return the U-Net with its initial weights."""
    task = _task(config)
    model = task.build_model()
    model.load_state_dict(initial_weights(task, config.seed))
    return model


def draw(config: RunConfig, model: UNet2DModel, trained: ImageSet) -> ImageSet:
    """Draw images with the classes of the training images, as a node does."""
    counts = trained.class_counts().numpy()
    drawn = _task(config).draw_images(model, classes_to_draw(counts, (counts > 0).tolist(), NUM_DRAWN))
    assert drawn is not None
    return drawn


def features_of(model: UNet2DModel, generated: ImageSet, trained: ImageSet, held_out: ImageSet) -> Features:
    """Return the features of generated, training and held-out images in both spaces."""
    device = torch.device("cpu")
    sets = (generated, trained, held_out)
    found = [middle_features(model, images, noise_schedule(1000), device) for images in sets]
    assert found[0] is not None and found[1] is not None and found[2] is not None
    pixels = [set_features(Pixels(), images, device) for images in sets]
    return {"pixels": (pixels[0], pixels[1], pixels[2]), "unet": (found[0], found[1], found[2])}


def judge(features: Features) -> Copies:
    """Return the verdict about one site with these images."""
    sums = blank_copies()
    for space, (generated, trained, held_out) in features.items():
        sums |= {f"copies/{space}/{key}": value for key, value in copy_sums(generated, trained, held_out).items()}
        sums[DRAWN] = np.full(2, float(len(generated)))
    return judge_copies({"site": sums})


def planted(features: Features, share: float) -> Features:
    """Return the features with a share of the generated images replaced by training images."""
    number = round(share * NUM_DRAWN)
    return {space: (np.concatenate([b[:number], a[number:]]), b, c) for space, (a, b, c) in features.items()}


def spread(model: UNet2DModel, digits: ImageSet, generator: np.random.Generator) -> dict[tuple[int, float], str]:
    """Return the verdict about several sites, by their number and the share of copies of any site's training images."""
    of_all = features_of(model, digits, digits, digits)
    found: dict[tuple[int, float], str] = {}
    for (number, num_train, num_held_out), share in itertools.product(SITES, SPREAD):
        order = generator.permutation(len(digits))
        ends = list(itertools.accumulate([num_train, num_held_out] * number, initial=0))
        pieces = [order[a:b] for a, b in itertools.pairwise(ends)]
        others, trained = order[ends[-1] :], np.concatenate(pieces[::2])
        parts = {}
        for place, (train_of_site, held_out) in enumerate(zip(pieces[::2], pieces[1::2], strict=True)):
            copies = round(share * NUM_DRAWN)
            drawn = np.concatenate([generator.choice(trained, copies), generator.choice(others, NUM_DRAWN - copies)])
            sums = blank_copies() | {DRAWN: np.full(2, float(NUM_DRAWN))}
            for space, (features, _, _) in of_all.items():
                own = copy_sums(features[drawn], features[train_of_site], features[held_out])
                sums |= {f"copies/{space}/{key}": value for key, value in own.items()}
            parts[f"site-{place}"] = sums
        found[number, share] = judge_copies(parts).verdict
    return found


def is_false_alarm(features: Features, size: tuple[int, int, int], generator: np.random.Generator) -> bool:
    """Tell whether the gate stops a model because of three small sets of real images."""
    trained, generated, held_out = (generator.choice(of, n, replace=False) for of, n in zip(NULL, size, strict=True))
    small = {space: (a[generated], b[trained], c[held_out]) for space, (a, b, c) in features.items()}
    return judge(small).verdict == "exceeded"


def main() -> None:
    """Print a line for each seed, and the means."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, default=20)
    arguments.add_argument("--epochs", type=float, default=1500.0, help="over the 64 images, one step each")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    found = []
    for seed in range(given.seeds):
        started = time.process_time()
        found.append(measure(seed, given.epochs))
        one = found[-1]
        shown = "; ".join(f"{space} {describe(one.copies, space)}" for space in SPACES)
        print(f"seed {seed}: {one.copies.verdict}: {shown}; {time.process_time() - started:.0f} s", flush=True)
    print(f"trained on 64: {verdicts([one.copies for one in found])}")
    for space in SPACES:
        shares = [one.copies.spaces[space].generated.share or 0.0 for one in found]
        alarms = [one.copies.spaces[space].verdict for one in found].count("exceeded")
        print(f"  {space}: exceeded {alarms}, copies {np.mean(shares):.3f} ({min(shares):.3f} to {max(shares):.3f})")
    for name in ("trained", "initial"):
        null = [one.null[name] for one in found]
        print(f"real images, features of the {name} network: {verdicts(null)}")
        for space in SPACES:
            spaces = [one.spaces[space] for one in null]
            alarms = [one.verdict for one in spaces].count("exceeded")
            inside = sum(1 for one in spaces if one.nearer_interval and is_in(0.5, one.nearer_interval))
            around = sum(1 for one in spaces if one.ratio_interval and is_in(1.0, one.ratio_interval))
            nearer, ratio = (np.mean([getattr(one, key) for one in spaces]) for key in ("nearer", "ratio"))
            print(
                f"  {space}: false alarms {alarms}; nearer to training {nearer:.3f} (0.5 in {inside} of {len(null)} "
                f"intervals), ratio {ratio:.3f} (1 in {around})"
            )
    for size in SMALL:
        print(f"false alarms, {size} images: {sum(one.small[size] for one in found)} of {DRAWS * len(found)}")
    for share in PLANTED:
        kinds = [one.planted[share] for one in found]
        print(f"planted {share:.0%}: {', '.join(f'{kind} {kinds.count(kind)}' for kind in sorted(set(kinds)))}")
    for (number, *_), share in itertools.product(SITES, SPREAD):
        kinds = [one.spread[number, share] for one in found]
        counts = ", ".join(f"{kind} {kinds.count(kind)}" for kind in sorted(set(kinds)))
        print(f"{number} sites, {share:.0%} of what they draw: {counts}")
    for space, delta in itertools.product(SPACES, DELTAS):
        repeated = np.mean([one.repeated[space, delta] for one in found])
        print(f"near copies among real images, {space}, delta {delta}: {repeated:.3f}")


def _task(config: RunConfig) -> DiffusionTask:
    task = build_task("diffusion", config, dataset_info(config.data))
    assert isinstance(task, DiffusionTask)
    return task


def is_in(value: float, interval: tuple[float, float]) -> bool:
    """Tell whether an interval holds a value."""
    return interval[0] <= value <= interval[1]


def describe(copies: Copies, space: str) -> str:
    """Say what was found in a space."""
    one = copies.spaces[space]
    shares = (
        f"{one.generated.copies} of {one.generated.images}, held out {one.held_out.copies} of {one.held_out.images}"
    )
    return f"{shares}, chance {one.chance:.1g}, nearer {one.nearer:.3f}, ratio {one.ratio:.3f}"


def verdicts(found: list[Copies]) -> str:
    """Count the verdicts."""
    kinds = [one.verdict for one in found]
    return ", ".join(f"{kind} {kinds.count(kind)}" for kind in dict.fromkeys(kinds))


if __name__ == "__main__":
    main()
