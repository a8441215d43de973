"""Tasks by name."""

from collections.abc import Callable

from fl_app.config import RunConfig, task_of
from fl_app.data.images import DatasetInfo
from fl_app.tasks.base import Task
from fl_app.tasks.classification import ClassificationTask
from fl_app.tasks.diffusion import DiffusionTask

TASKS: dict[str, Callable[[str, RunConfig, DatasetInfo], Task]] = {
    "diffusion": DiffusionTask.from_config,
    "classification": ClassificationTask.from_config,
}


def build_task(name: str, config: RunConfig, info: DatasetInfo) -> Task:
    """Build the task of that name, or the one whose baseline the name says, such as `classification-local`."""
    return TASKS[task_of(name)](name, config, info)
