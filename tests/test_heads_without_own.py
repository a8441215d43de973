"""Whole federations: heads are measured at sites whose moments they lack; a site of false class means is rejected."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from fl_app.messages.arrays import pack, unpack
from fl_app.messages.records import HEADS, MOMENTS
from tests.federation import run_federation
from tests.test_last_round import classification, result, site_of

pytestmark = pytest.mark.usefixtures("undrawn")


def test_heads_are_measured_at_sites_whose_moments_they_lack_in_the_last_exchange_alone(tmp_path: Path) -> None:
    counts: list[np.ndarray] = []

    def note(instruction: Message, reply: Message) -> Message:
        if instruction.metadata.message_type == HEADS and "left-out" in instruction.content:
            counts.append(unpack(reply.content.array_records["statistics"])["left-out/lda"])
        return reply

    run_federation(classification(tmp_path, {"classification.prototype-rounds": "1"}), 3, meddle=note)
    assert result(tmp_path, 1)["left-out-heads"] is None
    found = result(tmp_path)["left-out-heads"]
    images, right, linear = np.sum(counts, axis=0)
    assert len(counts) == 3 and images > 30
    assert found["images"]["lda"] == images
    assert found["accuracy"]["lda"] == right / images and found["linear-accuracy"]["lda"] == linear / images
    assert right / images > 0.5
    log = (tmp_path / "run" / "run.log").read_text()
    assert "Built without a site's moments, it reaches " in log


def test_two_sites_are_sent_no_heads_without_their_moments(tmp_path: Path) -> None:
    grid = run_federation(classification(tmp_path), 2)
    assert not any("left-out" in message.content for message in grid.sent)
    assert result(tmp_path)["left-out-heads"] is None


@pytest.mark.parametrize("part", [0.5, 1.0])
def test_moments_whose_class_means_lie_near_those_of_other_classes_are_rejected(part: float, tmp_path: Path) -> None:
    def lie(instruction: Message, reply: Message) -> Message:
        if instruction.metadata.message_type == MOMENTS and site_of(instruction) == "site-1":
            sums: dict[str, Any] = unpack(reply.content.array_records["statistics"])
            means = sums["sum"] / np.maximum(sums["count"], 1.0)[:, None]
            within = sums["outer"] - (means * sums["count"][:, None]).T @ means
            means = (1.0 - part) * means + part * np.roll(means, 1, axis=0)
            moved = means * sums["count"][:, None]
            reply.content["statistics"] = pack({**sums, "sum": moved, "outer": within + moved.T @ means})
        return reply

    run_federation(classification(tmp_path, {"data.limit": 600}), 3, meddle=lie)
    assert list(result(tmp_path)["left-out"]) == ["site-1"]
