"""The protocol of a task, tasks by name, and their initial weights."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fl_app.data.images import Batch, DatasetInfo, ImageSet
from fl_app.errors import OptionError
from fl_app.options.run import PassPlan, RunConfig
from fl_app.options.training import TrainingOptions
from fl_app.plugins import load
from fl_app.seeding import seed_for
from fl_app.sums import Sums


class Task(Protocol):
    """What a pass trains: its model, losses and figures, used by nodes and server."""

    name: str  # in the option `tasks`; also the name of its section of options

    @property
    def options(self) -> TrainingOptions:
        """How nodes train, and how often their weights are averaged."""

    def build_model(self) -> nn.Module:
        """Build the network; its initial weights come from torch's global generator."""

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Make every random choice of a training step, for the whole batch: augmentation, noise."""

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the training loss of each image of a drawn batch, or of a slice of it: [B]."""

    def measure(
        self, model: nn.Module, images: ImageSet, device: torch.device, generator: torch.Generator
    ) -> dict[str, NDArray[np.float64]]:
        """Measure a model on held-out images as additive sums; zero images give sums of 0."""

    def blank_sums(self) -> dict[str, NDArray[np.float64]]:
        """Return the sums of `measure` for zero images: same keys and shapes, all zeros."""

    def fault_of(self, models: Mapping[str, Sums], held_out: Sequence[int] | None) -> str | None:
        """Return what is wrong with a site's sums; None if its held-out images could have produced them.

        Args:
            models: results of `measure`, by name of the measured weights.
            held_out: images of each class, as the site described them; None: unknown.
        """

    def loss_of(self, sums: Sums) -> float | None:
        """Return the mean held-out loss; None if nothing was measured."""

    def figures(self, sums: Sums) -> dict[str, float | None]:
        """Compute named figures from the added sums of all sites."""

    def improved(self, before: Sums, after: Sums) -> bool | None:
        """Return whether the model improved, given its sums before and after; None if nothing was measured."""


@runtime_checkable
class MeasuresOwn(Protocol):
    """A task whose nodes also measure the network that they have just trained."""

    def own_sums(
        self, model: nn.Module, images: ImageSet, device: torch.device, round_number: int, min_class_count: int
    ) -> dict[str, NDArray[np.float64]]:
        """Measure a trained network on the training images: additive sums; empty in rounds that need none."""


@runtime_checkable
class Audited(Protocol):
    """A task whose weights can be audited by membership inference."""

    def membership(
        self, weights: Mapping[str, Tensor], parts: Mapping[str, ImageSet], device: torch.device, most: int
    ) -> dict[str, NDArray[np.float64]]:
        """Count the images `train`, `validation` and `test` by score, at most so many of each: additive sums."""


# Builds a task from its pass, the run's options and the images' info: a plug-in of `fl_app.tasks`.
BuildTask = Callable[[PassPlan, RunConfig, DatasetInfo], Task]


def build_task(name: str, config: RunConfig, info: DatasetInfo) -> Task:
    """Build the task of the pass `name`, such as `classification-local`.

    Raises:
        OptionError: the run has no such pass, or its task names nothing that may be imported.
    """
    plan = config.pass_named(name)
    build: BuildTask = load("tasks", plan.task, "tasks")
    return build(plan, config, info)


def check_tasks(config: RunConfig, info: DatasetInfo) -> None:
    """Build the networks once, so that options that do not fit the images fail before anything.

    Raises:
        OptionError: they do not fit, or there is but one class to tell apart.
    """
    if "classification" in config.tasks and len(info.class_names) < 2:
        raise OptionError(
            f"The task 'classification' needs at least two classes, found one: {', '.join(info.class_names)}. "
            "Use images of more classes (see 'data.class-names'), or leave this task out of 'tasks'."
        )
    for name in config.tasks:
        build_task(name, config, info).build_model()


def initial_weights(task: Task, seed: int) -> dict[str, torch.Tensor]:
    """Return a task's weights before training, which depend on the seed only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, task.name, "initial weights"))
        return {key: value.detach() for key, value in task.build_model().state_dict().items()}
