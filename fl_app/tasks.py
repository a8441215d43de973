"""What is learned: the protocol that a task answers, tasks by name, and the weights that they begin with."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fl_app.data.images import Batch, DatasetInfo, ImageSet
from fl_app.options.run import PassPlan, RunConfig
from fl_app.options.training import TrainingOptions
from fl_app.plugins import load
from fl_app.seeding import seed_for
from fl_app.sums import Statistics


class Task(Protocol):
    """One thing to learn, as nodes and server see it."""

    name: str  # in the option `tasks`; it is the name of its section of options, too

    @property
    def options(self) -> TrainingOptions:
        """How nodes train, and how often their weights are averaged."""

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


@runtime_checkable
class MeasuresOwn(Protocol):
    """A task whose nodes also measure the network that each of them has just trained."""

    def own_sums(
        self, model: nn.Module, images: ImageSet, device: torch.device, round_number: int, min_class_count: int
    ) -> dict[str, NDArray[np.float64]]:
        """Measure a trained network on the training images, in rounds that want it: additive sums, none in others."""


# Builds a task from its options, those of the whole run, and what is known of the images: a plug-in of `fl_app.tasks`.
BuildTask = Callable[[PassPlan, RunConfig, DatasetInfo], Task]


def build_task(name: str, config: RunConfig, info: DatasetInfo) -> Task:
    """Build what a pass learns; `name` is the pass's, such as `classification-local`.

    Raises:
        OptionError: the run has no such pass, or its task stands for nothing that may be used.
    """
    plan = config.pass_named(name)
    build: BuildTask = load("tasks", plan.task, "tasks")
    return build(plan, config, info)


def initial_weights(task: Task, seed: int) -> dict[str, torch.Tensor]:
    """Return a task's weights before training, which depend on the seed only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, task.name, "initial weights"))
        return {key: value.detach() for key, value in task.build_model().state_dict().items()}
