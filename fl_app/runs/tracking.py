"""Trackers: what else is told of each finished round, beside metrics.jsonl. A tracker that fails never ends a run."""

import logging
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fl_app.errors import OptionError
from fl_app.runs.documents import RoundLine

log = logging.getLogger(__name__)

_FIGURES = ("train_loss", "validation_loss", "validation_loss_ema", "validation_loss_node_ema")
_COSTS = ("seconds", "images_per_second", "bytes_down", "bytes_up")


def check_tracking(name: str) -> None:
    """Check that the package of a tracker is installed; an empty name needs none.

    Raises:
        OptionError: it is not.
    """
    if name == "tensorboard" and find_spec("tensorboard") is None:
        raise OptionError(
            "Option 'tracking' is 'tensorboard', and the package tensorboard is not installed. Install it with "
            "`pip install 'fl-app[tensorboard]'`, or leave the option empty."
        )


class Tracker:
    """Tells nobody of the rounds."""

    def add(self, line: RoundLine) -> None:
        """Take a finished round, as metrics.jsonl has it."""

    def close(self) -> None:
        """Write what is not on disk yet."""


class TensorBoard(Tracker):
    """Writes the rounds of a pass as scalars that `tensorboard --logdir <run>/tensorboard` shows.

    Args:
        folder: of the pass; it is made with the first round.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None
        self._is_broken = False

    def add(self, line: RoundLine) -> None:
        """Write the figures of a round; after the first error nothing more is written, and the log says why."""
        if self._is_broken:
            return
        try:
            if self._writer is None:
                from torch.utils.tensorboard import SummaryWriter

                # rounds that a resumed run repeats replace those of the process before
                self._writer = SummaryWriter(str(self._folder), purge_step=line.round)
            for name, value, step in scalars(line):
                self._writer.add_scalar(name, value, step, walltime=line.ended)
            self._writer.flush()
        except Exception as error:
            self._give_up(error)

    def close(self) -> None:
        """Close the file; a resumed run begins another one."""
        try:
            if self._writer is not None:
                self._writer.close()
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._is_broken = True
        log.warning("TensorBoard gets no more figures, and the run goes on: %s: %s", type(error).__name__, error)


def scalars(line: RoundLine) -> Iterator[tuple[str, float, int]]:
    """Yield the name, value and step of each figure of a round; figures that were not measured are left out.

    Figures of held-out images are of the weights before the round, so their step is the round before.
    """
    before = line.round - 1 if line.validated_round is None else line.validated_round
    for name in _FIGURES + _COSTS:
        value = getattr(line, name)
        if value is not None:
            kind = "cost" if name in _COSTS else "loss"
            step = before if name.startswith("validation") else line.round
            yield f"{kind}/{name.replace('_', '-')}", float(value), step
    for name, figure in line.figures.items():
        if figure is not None:
            yield f"held-out/{name}", figure, before
    for name, distance in line.drawn.items():
        yield f"drawn/frechet-distance-{name}", distance, line.round
    yield "cost/contributed", float(sum(node.outcome == "contributed" for node in line.nodes.values())), line.round


def open_tracker(name: str, folder: Path) -> Tracker:
    """Return a tracker by the value of the option `tracking`; `folder`: where it writes the pass's rounds."""
    return TensorBoard(folder) if name == "tensorboard" else Tracker()
