"""The node's own options, which a hospital sets and no run can change."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from fl_app.errors import OptionError
from fl_app.options.sections import LONGEST_NAME, SAFE_NAME, TASKS, Names, Section, read_section


class NodeConfig(Section):
    """What a node decides for itself; no option of a run overrides it.

    In a simulation Flower sets `partition-id` and `num-partitions`; a hospital sets `data-path` and `site`. Nobody sets
    both; a simulated node gets all four where it stands for a site: see `fl_app.node.images`.
    """

    partition_id: int | None = Field(default=None, ge=0)
    num_partitions: int | None = Field(default=None, ge=1)
    data_path: str = ""
    site: str = Field(default="", pattern=rf"^({SAFE_NAME})?$", max_length=LONGEST_NAME)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    state_dir: str = ""
    min_class_count: int = Field(default=1, ge=1)  # of fewer images of a class no prototype leaves the node
    max_unreadable_share: float = Field(default=0.05, ge=0, le=1)  # of the files, which may be missing or broken
    max_cache_megabytes: int = Field(default=4096, ge=0)  # of decoded images in `state-dir`; 0: none is kept
    max_rounds_per_day: int = Field(default=0, ge=0)  # training messages that are obeyed on one UTC date; 0: no limit
    tasks_allowed: Names = ()  # comma-separated; empty: all
    plugins_allowed: Names = ()  # comma-separated; of what is installed here, what a run may name; empty: nothing
    tell_class_names: bool = False  # the names of its classes may leave the node where a run states none

    @property
    def state_folder(self) -> Path:
        """Return the folder that a hospital's node keeps its state in."""
        return Path(self.state_dir).expanduser() if self.state_dir else Path.home() / "fl-app" / "state"

    @model_validator(mode="after")
    def _tasks_are_known(self) -> Self:
        for task in self.tasks_allowed:
            if task not in (*TASKS, *self.plugins_allowed):
                raise ValueError(
                    f"tasks-allowed must name {', '.join(TASKS)} or a task that plugins-allowed lists, got {task!r}"
                )
        return self

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Self:
        if self.data_path and self.partition_id is not None:
            raise ValueError("partition-id is for simulations: a hospital, which has a data-path, must not set it")
        return self

    @classmethod
    def from_flat(cls, options: Mapping[str, object]) -> Self:
        """Read Flower's `--node-config`; raises OptionError as `RunConfig.from_flat` does."""
        try:
            return read_section(cls, options)
        except OptionError as error:
            raise OptionError(str(error), public="a node option is wrong; the node's log says which") from None
