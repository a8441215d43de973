"""What a curious coordinator can read of single images with options, weights and the order of messages alone.

A hospital's node has its default options. `docs/threat-model.md` says what the attacks that still succeed mean.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fl_app.options.sections import OptionValue
from tests.node import attacks
from tests.node.coordinator import Outcome
from tests.options import NO_MINIMUMS

Attack = Callable[..., Outcome]

LARGEST_EXCESS = 0.02  # over the class mean, which the sums are meant to tell


OFF: dict[str, OptionValue] = {"check-weights": False}


@pytest.mark.parametrize(
    ("attack", "guard_off"),
    [
        (attacks.class_of_one, {"options": {**NO_MINIMUMS, **OFF}}),
        (attacks.held_out_of_one, {"options": {**NO_MINIMUMS, **OFF}}),
        (attacks.subtraction, {"options": NO_MINIMUMS, "is_simulated": True}),
        (attacks.growing_folder, {"options": OFF, "forgets": True}),
        (attacks.renamed_classes, {"options": OFF, "forgets": True}),
    ],
)
def test_with_default_options_no_image_is_told_better_than_by_its_class_mean(
    tmp_path: Path, attack: Attack, guard_off: dict[str, Any]
) -> None:
    assert attack(tmp_path / "unguarded", **guard_off).correlation > 0.99
    assert attack(tmp_path / "weights", OFF).excess <= LARGEST_EXCESS  # the other guards need no check of weights
    assert attack(tmp_path / "guarded", {}).excess <= LARGEST_EXCESS


@pytest.mark.parametrize("attack", [attacks.gate, attacks.held_out_gate, attacks.class_of_one])
def test_weights_out_of_the_blue_get_no_sums(tmp_path: Path, attack: Attack) -> None:
    assert attack(tmp_path / "unguarded", NO_MINIMUMS | OFF, is_patient=False).correlation > 0.99
    assert attack(tmp_path / "guarded", NO_MINIMUMS, is_patient=False).correlation == 0.0


def test_weights_out_of_the_blue_are_not_trained_in_the_first_round(tmp_path: Path) -> None:
    for agreed in (False, True):
        attack = functools.partial(attacks.imprint, agreed=agreed, is_patient=False)
        assert attack(tmp_path / f"unguarded-{agreed}", OFF).correlation > 0.98
        assert attack(tmp_path / f"guarded-{agreed}", {}).correlation == 0.0


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(attack, marks=pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason))
        for attack, reason in (
            (attacks.imprint, "r 1.00, +0.18: one step's weights hold the single gradients of a layer of thresholds"),
            (
                functools.partial(attacks.imprint, agreed=True),
                "r 0.99, +0.17: the same with a run's default options, to which a study may have agreed",
            ),
            (attacks.gate, "r 1.00, +0.18: an embedding may be zero for all images of a class but one"),
            (
                attacks.near_honest_weights,
                "r 0.88, +0.06: the same in 4 of 512 coordinates of honest weights",
            ),
            (attacks.held_out_class_of_one, "r 0.95, +0.13: min-held-out counts the images of all classes together"),
            (attacks.held_out_gate, "r 1.00, +0.17: a loss may depend on one held-out image alone"),
        )
    ],
)
def test_no_weights_make_a_reply_tell_one_image_of_many(tmp_path: Path, attack: Attack) -> None:
    assert attack(tmp_path, {}).excess <= LARGEST_EXCESS
