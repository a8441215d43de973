"""Tasks by name."""

from collections.abc import Callable

from fl_app.config import RunConfig
from fl_app.data.images import DatasetInfo
from fl_app.tasks.base import Task
from fl_app.tasks.diffusion import DiffusionTask

TASKS: dict[str, Callable[[RunConfig, DatasetInfo], Task]] = {"diffusion": DiffusionTask.from_config}


def build_task(name: str, config: RunConfig, info: DatasetInfo) -> Task:
    """Build the task of that name."""
    return TASKS[name](config, info)
