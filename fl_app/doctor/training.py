"""Some rounds of training on the node's own images, and what their losses say."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fl_app.doctor.finding import Finding, plural


@dataclass(frozen=True)
class LocalRound:
    """A round of one task at this node alone.

    Attributes:
        loss: mean training loss; not a number where no image was seen.
        num_images: seen in training, each epoch counted.
        seconds: of training, without reading images and measuring.
    """

    loss: float
    num_images: int
    seconds: float


def judge_training(task: str, rounds: Sequence[LocalRound], before: float | None, after: float | None) -> Finding:
    """Tell what some rounds of local training came to.

    Args:
        task: its name.
        rounds: in order, at least one.
        before: loss of the untrained weights on the node's held-out images; None where none are held out.
        after: loss of the trained weights on them.
    """
    name = f"training of {task}"
    num_images, seconds = sum(one.num_images for one in rounds), sum(one.seconds for one in rounds)
    if num_images == 0:
        return Finding(name, "not ready", "No image was trained on: the folder holds too few for a round.")
    losses = ", ".join(f"{one.loss:.4f}" for one in rounds)
    speed = f"{num_images / seconds:.0f} images/s" if seconds > 0 else "too fast to be timed"
    text = f"{plural(len(rounds), 'round')}, nothing sent: training loss {losses}; {speed}"
    if before is not None and after is not None:
        return _verdict(name, f"{text}; on held-out images {before:.4f} before, {after:.4f} after.", after < before)
    measured = [one.loss for one in rounds if math.isfinite(one.loss)]
    return _verdict(name, f"{text}.", len(measured) < 2 or measured[-1] < measured[0])


def _verdict(name: str, text: str, has_improved: bool) -> Finding:
    if has_improved:
        return Finding(name, "ready", text)
    return Finding(name, "warning", f"{text} That is no better: a round or two may be too few, or the labels be wrong.")
