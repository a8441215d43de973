"""Measures the audit by membership inference: what it finds in models that know their images, and its false alarms.

For each seed a small U-Net is trained long on 64 digits. The audit then compares these with 300 digits that the model
has not seen, and, as a control, two independent sets of 300 such digits with each other. The control is also asked for
the verdict of the gate, as are small sets drawn from it: each `exceeded` is a false alarm. The scores without the label
are measured beside those with it.

    python -m benchmarks.membership
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

from benchmarks.models import default_config
from fl_app.data.digits import read_digits
from fl_app.data.images import ImageSet
from fl_app.data.sources import dataset_info
from fl_app.diffusion.membership import image_scores
from fl_app.diffusion.process import noise_schedule
from fl_app.metrics.audited import Membership
from fl_app.metrics.membership import (
    HELD_OUT,
    HIGHEST,
    LOWEST,
    NUM_BINS,
    SCORES,
    TEST,
    TRAIN,
    blank_histograms,
    histogram,
    judge_membership,
)
from fl_app.node.training import Progress, train_local
from fl_app.options.run import RunConfig
from fl_app.seeding import generator_for, numpy_generator_for
from fl_app.tasks import build_task, initial_weights

LIMIT = 0.65
NUM_TRAINED = 64
NUM_OTHERS = 300
SMALL = ((20, 5), (20, 2), (64, 16))  # training and held-out images of small sets
DRAWS = 100  # of small sets, for each seed
COUNTED = (20, 64, 200)  # images whose counts somebody has who looks for another image
BINS = (NUM_BINS, 2 * NUM_BINS, NUM_BINS // 2)

Scores = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Found:
    """What one seed gave.

    Attributes:
        audit: of the images that the model was trained on, against others.
        control: of two sets that it was not trained on.
        unlabelled: the audit without the label.
        small: false alarms by size of the two sets.
        excluded: share of other images that cannot be among the counted ones, by number of these and of bins.
    """

    audit: Membership
    control: Membership
    unlabelled: Membership
    small: dict[tuple[int, int], int]
    excluded: dict[tuple[int, int], float]


def measure(seed: int, epochs: float) -> Found:
    """Train a model on 64 digits, and audit it."""
    config = small_config(seed, epochs)
    digits = read_digits("train")
    order = torch.from_numpy(numpy_generator_for(seed, "membership").permutation(len(digits)))
    bounds = (0, NUM_TRAINED, NUM_TRAINED + NUM_OTHERS, NUM_TRAINED + 2 * NUM_OTHERS)
    trained, first, second = (digits.select(order[a:b]) for a, b in itertools.pairwise(bounds))
    model, unlabelled = train(config, trained)
    scores = [image_scores(model, images, noise_schedule(1000), torch.device("cpu")) for images in (trained, first)]
    others = image_scores(model, second, noise_schedule(1000), torch.device("cpu"))
    without = [score_unlabelled(model, images, unlabelled) for images in (trained, first)]
    generator = numpy_generator_for(seed, "small sets")
    small = {size: sum(is_false_alarm(scores[1], others, size, generator) for _ in range(DRAWS)) for size in SMALL}
    excluded = {
        (size, bins): float(np.mean([share_excluded(scores[1], others, size, bins, generator) for _ in range(DRAWS)]))
        for size in COUNTED
        for bins in BINS
    }
    return Found(judge(scores[0], scores[1], others), judge(scores[1], others), judge(*without), small, excluded)


def small_config(seed: int, epochs: float) -> RunConfig:
    """Return the options of a small U-Net that is trained for a step an epoch on `NUM_TRAINED` images."""
    return default_config(
        {
            "seed": seed,
            "diffusion.block-channels": "16,32",
            "diffusion.mid-attention": False,
            "diffusion.num-rounds": 1,
            "diffusion.epochs": epochs,
            "diffusion.batch-size": NUM_TRAINED,
            "diffusion.learning-rate": 2e-3,
        }
    )


def train(config: RunConfig, images: ImageSet) -> tuple[UNet2DModel, int]:
    """Return a U-Net trained on images, and its label for "no class"."""
    task = build_task("diffusion", config, dataset_info(config.data))
    model = task.build_model()
    model.load_state_dict(initial_weights(task, config.seed))
    train_local(
        model,
        task,
        images,
        config.diffusion,
        Progress(1, 1),
        device=torch.device("cpu"),
        order=lambda epoch: generator_for(config.seed, "site", epoch, "order"),
        noise=generator_for(config.seed, "site", 1, "noise"),
    )
    return model, len(images.class_names)


def score_unlabelled(model: UNet2DModel, images: ImageSet, label: int) -> Scores:
    """Return the scores of images whose label is hidden."""
    names = (*images.class_names, "no class")
    hidden = ImageSet(images.images, torch.full_like(images.labels, label), names)
    return image_scores(model, hidden, noise_schedule(1000), torch.device("cpu"))


def judge(members: Scores, controls: Scores, tests: Scores | None = None) -> Membership:
    """Return the verdict about one site with these images."""
    sums = blank_histograms()
    for part, scores in ((TRAIN, members), (HELD_OUT, controls), (TEST, tests or {})):
        sums |= {f"{score}/{part}": histogram(values) for score, values in scores.items()}
    return judge_membership({"site": sums}, LIMIT)


def is_false_alarm(one: Scores, other: Scores, size: tuple[int, int], generator: np.random.Generator) -> bool:
    """Tell whether the gate stops a model because of two small sets, none of which it was trained on."""
    chosen = [generator.choice(NUM_OTHERS, number, replace=False) for number in size]
    members, controls = (
        {score: values[c] for score, values in s.items()} for s, c in zip((one, other), chosen, strict=True)
    )
    return judge(members, controls).verdict == "exceeded"


def share_excluded(
    counted: Scores, others: Scores, number: int, num_bins: int, generator: np.random.Generator
) -> float:
    """Return the share of other images with a score in whose bin no counted image lies.

    Args:
        counted: scores from which so many are drawn.
        others: scores of other images.
        number: of counted images.
        num_bins: over the whole range.
        generator: draws them.
    """
    chosen = generator.choice(NUM_OTHERS, number, replace=False)
    is_excluded = np.zeros(NUM_OTHERS, dtype=np.bool_)
    for score in SCORES:
        filled, wanted = (
            np.floor(np.log(values / LOWEST) / np.log(HIGHEST / LOWEST) * num_bins)
            for values in (counted[score][chosen], others[score])
        )
        is_excluded |= ~np.isin(wanted, filled)
    return float(is_excluded.mean())


def main() -> None:
    """Print a line for each seed, and the means."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, default=20)
    arguments.add_argument("--epochs", type=float, default=500.0, help="over the 64 images, one step each")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    found = []
    for seed in range(given.seeds):
        started = time.process_time()
        found.append(measure(seed, given.epochs))
        one = found[-1]
        shown = ", ".join(
            f"{score} {one.audit.scores[score].auc:.3f} (no label {one.unlabelled.scores[score].auc:.3f}, control "
            f"{one.control.scores[score].auc:.3f})"
            for score in SCORES
        )
        print(f"seed {seed}: {one.audit.verdict}, {shown}; {time.process_time() - started:.0f} s", flush=True)
    for score in SCORES:
        for name, audits in (
            ("audit", [one.audit for one in found]),
            ("no label", [one.unlabelled for one in found]),
            ("control", [one.control for one in found]),
        ):
            aucs = np.array([audit.scores[score].auc for audit in audits], dtype=np.float64)
            tprs = np.array([audit.scores[score].tpr for audit in audits], dtype=np.float64)
            print(
                f"{score}, {name}: mean AUC {aucs.mean():.3f} ({aucs.min():.3f} to {aucs.max():.3f}), "
                f"mean TPR at 1 % FPR {tprs.mean():.3f}"
            )
    for name, verdicts in (
        ("audit", [one.audit.verdict for one in found]),
        ("control", [one.control.verdict for one in found]),
    ):
        print(f"verdicts, {name}: {', '.join(f'{kind} {verdicts.count(kind)}' for kind in dict.fromkeys(verdicts))}")
    for size in SMALL:
        alarms = sum(one.small[size] for one in found)
        print(f"false alarms, {size[0]} and {size[1]} images: {alarms} of {DRAWS * len(found)}")
    for number, bins in itertools.product(COUNTED, BINS):
        share = np.mean([one.excluded[number, bins] for one in found])
        print(f"other images that are not among {number} counted ones by their bins, of {bins}: {share:.2f}")


if __name__ == "__main__":
    main()
