"""Options of the training alone still show single images: no weight of these attacks is the coordinator's own."""

from pathlib import Path

import pytest

from tests.node import honest_training
from tests.node.test_attacks import LARGEST_EXCESS, Attack


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(attack, marks=pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason))
        for attack, reason in (
            (honest_training.one_image_a_round, "min-images counts the node's images, and not those of a round"),
            (honest_training.one_image_more, "the rounds of two runs may differ by one image"),
            (honest_training.last_batch, "a small last batch weighs as much as a large one"),
        )
    ],
)
def test_no_options_of_the_training_make_a_reply_tell_one_image(tmp_path: Path, attack: Attack) -> None:
    assert attack(tmp_path, {}).excess <= LARGEST_EXCESS
