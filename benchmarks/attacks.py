"""Prints the table of `docs/threat-model.md`: what a curious coordinator reads of single images, attack by attack.

python -m benchmarks.attacks
"""

import functools
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

from fl_app.options.sections import OptionValue
from tests.node import attacks, honest_training
from tests.node.coordinator import Outcome
from tests.options import NO_MINIMUMS

Attack = Callable[[Path], Outcome]

_NO_WEIGHTS: dict[str, OptionValue] = {"check-weights": False}
_NO_GUARD: dict[str, OptionValue] = {**NO_MINIMUMS, **_NO_WEIGHTS}

ATTACKS: dict[str, tuple[Attack, Attack]] = {  # what is tried: without the guard, and with the default options
    "weights that make the embedding the image; a class with one image": (
        functools.partial(attacks.class_of_one, options=_NO_GUARD),
        functools.partial(attacks.class_of_one, options={}),
    ),
    "two questions under other options, subtracted": (
        functools.partial(attacks.subtraction, options=NO_MINIMUMS, is_simulated=True),
        functools.partial(attacks.subtraction, options={}),
    ),
    "two questions, an image came or left between them": (
        functools.partial(attacks.growing_folder, options=_NO_WEIGHTS, forgets=True),
        functools.partial(attacks.growing_folder, options={}),
    ),
    "the same, and the classes of an npz got other names": (
        functools.partial(attacks.renamed_classes, options=_NO_WEIGHTS, forgets=True),
        functools.partial(attacks.renamed_classes, options={}),
    ),
    "the loss of a held-out set with one image": (
        functools.partial(attacks.held_out_of_one, options=_NO_GUARD),
        functools.partial(attacks.held_out_of_one, options={}),
    ),
    "the scores of a class with one of twenty held-out images": (
        functools.partial(attacks.held_out_class_of_one, options=_NO_GUARD),
        functools.partial(attacks.held_out_class_of_one, options={}),
    ),
    "a loss that depends on one of twenty held-out images": (
        functools.partial(attacks.held_out_gate, options=_NO_GUARD),
        functools.partial(attacks.held_out_gate, options={}),
    ),
    "an embedding that is zero for all but one of the 60 images of a class": (
        functools.partial(attacks.gate, options=_NO_GUARD),
        functools.partial(attacks.gate, options={}),
    ),
    "the same with weights that differ from honest ones by less than a round of training": (
        functools.partial(attacks.near_honest_weights, options=_NO_GUARD),
        functools.partial(attacks.near_honest_weights, options={}),
    ),
    "one training step on 20 images with an imprint layer": (
        functools.partial(attacks.imprint, options=_NO_GUARD),
        functools.partial(attacks.imprint, options={}),
    ),
    "the same under the run's default options, with Adam": (
        functools.partial(attacks.imprint, options=_NO_GUARD, agreed=True),
        functools.partial(attacks.imprint, options={}, agreed=True),
    ),
    **{
        name: (functools.partial(honest_training.unguarded, attack), functools.partial(attack, options={}))
        for name, attack in {
            "honest weights, a round of one image": honest_training.one_image_a_round,
            "honest weights, rounds of 20 and of 21 images, subtracted": honest_training.one_image_more,
            "honest weights, a last batch of one image": honest_training.last_batch,
            "honest weights, second batches of 20 and of 21 images, subtracted": honest_training.two_batch_sizes,
        }.items()
    },
}


def main() -> None:
    """Run every attack twice and print a table in Markdown."""
    logging.disable(logging.CRITICAL)
    print("| attack | guard off | default options |\n|---|---|---|")
    for name, versions in ATTACKS.items():
        cells = []
        for attack in versions:
            with tempfile.TemporaryDirectory() as folder:
                outcome = attack(Path(folder))
                cells.append(f"{outcome.correlation:.2f} ({outcome.excess:+.2f})")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
