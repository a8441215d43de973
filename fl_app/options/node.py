"""The node's own options, which a hospital sets and no run can change."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from fl_app.errors import OptionError, did_you_mean
from fl_app.options.sections import LONGEST_NAME, SAFE_NAME, TASKS, Names, Plugin, Section, read_section


class NodeConfig(Section):
    """The options of a node; no option of a run overrides them.

    In a simulation Flower sets `partition-id` and `num-partitions`; a hospital sets `data-path` and `site`. Only a
    simulated node that stands for a site has all four: see `fl_app.node.images.as_simulated`.
    """

    partition_id: int | None = Field(default=None, ge=0)
    num_partitions: int | None = Field(default=None, ge=1)
    data_path: str = Field(default="", description="folder of the hospital's images; it is only read")
    site: str = Field(
        default="",
        pattern=rf"^({SAFE_NAME})?$",
        max_length=LONGEST_NAME,
        description="name of the hospital in the federation",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto (a GPU if there is one), cpu or cuda"
    )
    state_dir: str = Field(default="", description="folder of the node's state between rounds; empty: ~/fl-app/state")
    validation_share: float = Field(
        default=0.1, ge=0, lt=1, description="share of the images that is held out, if they have no part val"
    )
    test_share: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="share of the images, or patients, to test on, if there is no part test",
    )
    min_images: int = Field(
        default=20, ge=1, description="fewest training images with which the node trains and sends sums of them"
    )
    min_held_out: int = Field(
        default=5, ge=1, description="fewest held-out images, and fewest test images, whose sums leave the node"
    )
    min_class_count: int = Field(
        default=5, ge=1, description="fewest images of a class whose prototype leaves the node"
    )
    max_unreadable_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="share of the files that may be missing or broken; if more are, the node takes no part",
    )
    max_cache_megabytes: int = Field(
        default=4096, ge=0, description="size of the cache of decoded images in state-dir; 0: no cache"
    )
    max_rounds_per_day: int = Field(
        default=1000, ge=0, description="rounds that the node trains on one day (UTC), over all runs; 0: no limit"
    )
    max_queries_per_day: int = Field(
        default=1000,
        ge=0,
        description="messages beside training that may read the images on one day (UTC), over all runs; 0: no limit",
    )
    check_weights: bool = Field(
        default=True,
        description="received weights must be the study's in round 1 and lie near earlier ones later, and prototypes "
        "are measured once for each exchange; false: any weights, as often as asked",
    )
    tasks_allowed: Annotated[Names, Plugin("tasks")] = Field(
        default=(), description="tasks that a run may train here, comma-separated; empty: all"
    )
    plugins_allowed: Names = Field(
        default=(), description="installed plug-ins that a run may name, comma-separated; empty: only what is built in"
    )
    quality_networks: Names = Field(
        default=(),
        description="SHA-256 of the files of feature networks that the node lets a run load, to compare generated "
        "images with real ones, comma-separated; empty: none. Pixels and the run's classifier need no file",
    )
    approved_code: Names = Field(
        default=(),
        description="SHA-256 of the code that fl-app supernode lets runs execute here, comma-separated, each as "
        "`fl-app code-hash` prints it; empty: any code",
    )
    study: str = Field(
        default="", description="file of the options of the runs that the node takes part in; empty: any options"
    )
    tell_class_names: bool = Field(
        default=False, description="the names of the node's classes may leave it if a run states none"
    )

    @field_validator("approved_code", "quality_networks")
    @classmethod
    def _are_hashes(cls, hashes: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for one in hashes:
            if not re.fullmatch("[0-9a-fA-F]{64}", one):
                printed_by = "sha256sum" if info.field_name == "quality_networks" else "fl-app code-hash"
                raise ValueError(f"must be the 64 hexadecimal digits that `{printed_by}` prints, got {one!r}")
        return tuple(dict.fromkeys(one.lower() for one in hashes))

    @property
    def is_simulated(self) -> bool:
        """Whether a run's server started the node: its images are the server's, so a hospital's guards do not apply."""
        return self.partition_id is not None

    @property
    def has_own_folder(self) -> bool:
        """Whether it answers as a hospital does; so does a simulated node that stands for one."""
        return bool(self.data_path)

    @property
    def state_folder(self) -> Path:
        """Return the folder of the node's state."""
        return Path(self.state_dir).expanduser() if self.state_dir else Path.home() / "fl-app" / "state"

    @model_validator(mode="after")
    def _tasks_are_known(self) -> Self:
        for task in self.tasks_allowed:
            known = (*TASKS, *self.plugins_allowed)
            if task not in known:
                raise ValueError(
                    f"tasks-allowed must name {', '.join(TASKS)} or a task that plugins-allowed lists, got {task!r}."
                    f"{did_you_mean(task, known)}"
                )
        return self

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Self:
        if self.data_path and self.partition_id is not None:
            raise ValueError("partition-id is for simulations: a hospital sets data-path instead, not both")
        return self

    @classmethod
    def from_flat(cls, options: Mapping[str, object]) -> Self:
        """Read Flower's `--node-config`; raises OptionError as `RunConfig.from_flat` does."""
        try:
            return read_section(cls, options)
        except OptionError as error:
            raise OptionError(str(error), public="a node option is wrong; the node's log says which") from None
