"""No options of the training alone show a single image: no weight of these attacks is the coordinator's own."""

from pathlib import Path

import pytest

from tests.node import honest_training
from tests.node.test_attacks import LARGEST_EXCESS, Attack


@pytest.mark.parametrize(
    "attack",
    [
        honest_training.one_image_a_round,
        honest_training.one_image_more,
        honest_training.last_batch,
        honest_training.two_batch_sizes,
    ],
)
def test_no_options_of_the_training_make_a_reply_tell_one_image(tmp_path: Path, attack: Attack) -> None:
    assert attack(tmp_path / "guarded", {}).excess <= LARGEST_EXCESS
    assert honest_training.unguarded(attack, tmp_path / "open").excess > 5 * LARGEST_EXCESS
