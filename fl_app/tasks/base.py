"""The protocol that a task answers."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fl_app.data.images import ImageSet
from fl_app.options.training import TrainingOptions
from fl_app.shapes import Batch
from fl_app.sums import Statistics


class Task(Protocol):
    """One thing to learn, as nodes and server see it."""

    name: str  # in the option `tasks`, in messages and in the run folder

    @property
    def options(self) -> TrainingOptions:
        """How nodes train, and how often their weights are averaged."""

    keeps_weights: bool  # a node keeps its own trained weights between rounds

    is_alone: bool  # a node goes on with its own weights, whatever the server sends

    is_pooled: bool  # one node trains on the images of all; simulations only

    def build_model(self) -> nn.Module:
        """Build the network; its initial weights come from torch's global generator."""

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Make every random choice of a training step, for the whole batch: augmentation, noise."""

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the training loss of each image of a drawn batch, or of a slice of it: [B]."""

    def statistics(
        self, model: nn.Module, images: ImageSet, device: torch.device, generator: torch.Generator
    ) -> dict[str, NDArray[np.float64]]:
        """Measure a model on held-out images as sums that add up over nodes; no image gives sums of 0."""

    def blank_sums(self) -> dict[str, NDArray[np.float64]]:
        """Return statistics of no image: sums of 0, with the names and shapes that all statistics have."""

    def fault_of(self, models: Mapping[str, Statistics], held_out: Sequence[int] | None) -> str | None:
        """Say what is wrong with a site's statistics; None if its held-out images may lead to them.

        Args:
            models: of each set of weights that was measured, as `statistics` returns them.
            held_out: images of each class, as the site described them; None: unknown.
        """

    def loss_of(self, statistics: Statistics) -> float | None:
        """Finish added statistics to the loss that models are compared by; None where nothing was measured."""

    def figures(self, statistics: Statistics) -> dict[str, float | None]:
        """Finish added statistics to named figures."""

    def improved(self, before: Statistics, after: Statistics) -> bool | None:
        """Tell whether a model got better, by the statistics of both; None where nothing was measured."""

    def after_training(
        self, model: nn.Module, images: ImageSet, device: torch.device, round_number: int, min_class_count: int
    ) -> dict[str, NDArray[np.float64]]:
        """Measure what else a reply holds of a node's trained model; additive sums, none in most rounds."""
