"""Tasks by name, and the weights that they begin with."""

from collections.abc import Callable

import torch

from fl_app.classification.task import ClassificationTask
from fl_app.data.images import DatasetInfo
from fl_app.errors import OptionError
from fl_app.options.run import RunConfig
from fl_app.options.sections import task_of
from fl_app.seeding import seed_for
from fl_app.tasks.base import Task


def _diffusion(name: str, config: RunConfig, info: DatasetInfo) -> Task:
    from fl_app.diffusion.task import DiffusionTask

    return DiffusionTask.from_config(name, config, info)


TASKS: dict[str, Callable[[str, RunConfig, DatasetInfo], Task]] = {
    "diffusion": _diffusion,
    "classification": ClassificationTask.from_config,
}


def check_pass(name: str, config: RunConfig) -> None:
    """Refuse the name of a task or baseline that a run does not have; raises OptionError."""
    if name not in config.passes():
        raise OptionError(f"The task must be one of this run's, {', '.join(config.passes())}, got {name!r}.")


def build_task(name: str, config: RunConfig, info: DatasetInfo) -> Task:
    """Build the task of that name, or the one whose baseline the name says, such as `classification-local`.

    Raises:
        OptionError: the run has no such task or baseline.
    """
    check_pass(name, config)
    return TASKS[task_of(name)](name, config, info)


def initial_weights(task: Task, seed: int) -> dict[str, torch.Tensor]:
    """Return a task's weights before training, which depend on the seed only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, task_of(task.name), "initial weights"))
        return {key: value.detach() for key, value in task.build_model().state_dict().items()}
