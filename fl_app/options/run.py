"""All options of a run; their defaults are in pyproject.toml and nowhere else."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fl_app.errors import OptionError
from fl_app.options.audit import NO_AUDIT, AuditOptions
from fl_app.options.export import ExportOptions
from fl_app.options.federation import AdmissionOptions, FederationOptions
from fl_app.options.images import DataOptions, PartitionOptions
from fl_app.options.quality import QualityOptions
from fl_app.options.sections import (
    BASELINES,
    SAFE_NAME,
    TASKS,
    Named,
    Names,
    OptionValue,
    Plugin,
    Section,
    describe_section,
    flatten,
    named_in,
    read_section,
)
from fl_app.options.training import (
    ClassificationOptions,
    DiffusionOptions,
    PluginTaskOptions,
    SamplingOptions,
    StrategyOptions,
    TrainingOptions,
)
from fl_app.plugins import AT_NODES, built_in, check_name, load

# Options that runs of older versions lack, and the values that those versions used.
ADDED: dict[str, OptionValue] = {
    "diffusion.network": "unet",
    "classification.heads": "",
    "classification.metrics": "",
    "partition.min-images": 1,
    "partition.min-held-out": 1,
    "partition.min-class-count": 1,
    "federation.sites": "",
    "admission.max-share": 0.0,
    "export.site-names": False,  # those versions did name sites, which nobody had asked for
    "export.licence": "",
    "late-joining": False,
    "classification.label-smoothing": 0.0,
    "classification.replay": "none",
    "classification.replay-ratio": 1.0,
    "classification.replay-images": 1000,
    "classification.replay-seconds": 900.0,
    "classification.replay-kept": 0.9,
    "tracking": "",
    **NO_AUDIT,
    "quality.features": "",
    "quality.usefulness": False,
    "quality.num-images": 0,
    "quality.neighbours": 5,
    "quality.network-file": "",
    "quality.curve": "",
    "quality.curve-images": 200,
    "quality.export": "last",
}


@dataclass(frozen=True)
class PassPlan:
    """One training of a run: what is learned, and how nodes take part.

    Attributes:
        task: what is learned.
        options: how nodes train, and by which strategy the server averages.
        baseline: what the task is compared with: `local`, `centralised` or a strategy's name in lower case; empty: the
            task itself.
        keeps_weights: a node keeps its own trained weights between rounds.
    """

    task: str
    options: TrainingOptions
    baseline: str = ""
    keeps_weights: bool = False

    @property
    def name(self) -> str:
        """The name in messages and in the run folder, such as `classification-local`."""
        name = f"{self.task}-{self.baseline}" if self.baseline else self.task
        return name.replace(":", ".")  # it names a folder

    @property
    def is_alone(self) -> bool:
        """Return whether each node continues from its own weights and ignores the server's."""
        return self.baseline == "local"

    @property
    def is_pooled(self) -> bool:
        """Return whether one node trains on the images of all nodes; in simulations only."""
        return self.baseline == "centralised"


class RunConfig(Section):
    """All options of a run, one section per concern."""

    tasks: Annotated[Names, Plugin("tasks")] = Field(
        min_length=1, description="what to train, comma-separated, in this order"
    )
    recipe: str = Field(pattern=rf"^{SAFE_NAME}$", description="a name for this set of options; part of the run's name")
    seed: int = Field(ge=0, description="all random numbers of the run depend on it")
    output_dir: str = Field(description="folder in which run folders are made; empty: ~/fl-app/runs")
    run_name: str = Field(
        pattern=rf"^({SAFE_NAME})?$", description="name of the run folder; empty: <time>-<recipe>-<id>"
    )
    resume: str = Field(description="a run folder to resume, or auto: the newest unfinished one with the same options")
    checkpoint_every: int = Field(ge=1, description="rounds between checkpoints")
    gallery_every: int = Field(ge=0, description="rounds between galleries; 0: only one, at the end")
    tracking: Literal["", "tensorboard"] = Field(
        description="tensorboard: also write each round's figures for TensorBoard, into the run's folder tensorboard "
        "(needs the extra tensorboard); empty: metrics.jsonl only"
    )
    late_joining: bool = Field(
        description="hospitals that have not seen the first round, or have lost their state, also send sums by class: "
        "held-out figures and prototypes; false: they only train. Runs with federation.nodes-per-round allow it anyway"
    )
    data: DataOptions
    partition: PartitionOptions
    federation: FederationOptions
    admission: AdmissionOptions
    strategy: StrategyOptions
    diffusion: DiffusionOptions
    classification: ClassificationOptions
    sampling: SamplingOptions
    audit: AuditOptions
    quality: QualityOptions
    export: ExportOptions
    plugin_task: PluginTaskOptions

    @model_validator(mode="after")
    def _sections_fit_together(self) -> Self:
        if self.partition.scheme == "sites" and self.data.source != "folder":
            raise ValueError(f"partition.scheme sites needs data.source folder, got {self.data.source}")
        if self.sampling.num_steps > self.diffusion.num_timesteps:
            raise ValueError(
                f"sampling.num-steps must be at most diffusion.num-timesteps, {self.diffusion.num_timesteps}, "
                f"got {self.sampling.num_steps}"
            )
        steps = self.sampling.num_steps
        if self.sampling.sampler == "ddim" and steps and self.diffusion.num_timesteps % steps:
            raise ValueError(
                f"sampling.num-steps must divide diffusion.num-timesteps, {self.diffusion.num_timesteps}, for ddim, "
                f"got {self.sampling.num_steps}"
            )
        return self

    @model_validator(mode="after")
    def _a_model_draws_what_is_replayed(self) -> Self:
        if "classification" in self.tasks and self.classification.replay == "generated":
            before = self.tasks[: self.tasks.index("classification")]
            if "diffusion" not in before:
                raise ValueError(
                    "classification.replay generated needs a diffusion model of the same run: tasks must name "
                    f"diffusion before classification, got {', '.join(self.tasks)}"
                )
        return self

    @model_validator(mode="after")
    def _tasks_are_named_once(self) -> Self:
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks must name each task once, got {', '.join(self.tasks)}")
        return self

    def passes(self) -> tuple[PassPlan, ...]:
        """Return each training of the run in order: each task, followed by its baselines."""
        plans = []
        for task in self.tasks:
            options: TrainingOptions = getattr(self, task) if task in TASKS else self.plugin_task
            if not isinstance(options, ClassificationOptions):
                plans.append(PassPlan(task, options))
                continue
            plans.append(PassPlan(task, options, keeps_weights="local" in options.readings))
            for name in options.baselines:
                # the server's strategy has no effect on a training of one node
                strategy = {"strategy": "FedAvg" if name in BASELINES else name}
                own = options.model_copy(update=strategy)
                plans.append(PassPlan(task, own, name.lower(), keeps_weights=name == "local"))
        return tuple(plans)

    @property
    def allows_late_joining(self) -> bool:
        """Whether hospitals that have not seen the first round also send sums by class."""
        return self.late_joining or self.federation.nodes_per_round > 0

    @property
    def judged(self) -> tuple[str, ...]:
        """What is measured of generated images; empty if the run trains no diffusion model.

        Features of the run's classifier need one.
        """
        if "diffusion" not in self.tasks:
            return ()
        return tuple(one for one in self.quality.measured if one != "classifier" or "classification" in self.tasks)

    @property
    def has_curve(self) -> bool:
        """Whether images are compared with real ones during the training of a diffusion model."""
        return self.allows_curve and self.gallery_every > 0

    @property
    def allows_curve(self) -> bool:
        """Whether nodes may be asked for it, however often the server draws: no study fixes `gallery-every`."""
        return "diffusion" in self.tasks and bool(self.quality.curve)

    @property
    def is_tested(self) -> bool:
        """Whether nodes use test images: for a classifier, or for generated images."""
        return "classification" in self.tasks or bool(self.judged) or self.allows_curve

    @property
    def nodes_draw(self) -> bool:
        """Whether nodes draw images: to look for copies, or to train a classifier on them."""
        looked_for = "diffusion" in self.tasks and self.audit.membership and self.audit.copies_images > 0
        return looked_for or ("classification" in self.tasks and self.classification.replay == "generated")

    def named(self) -> tuple[Named, ...]:
        """Return every name of a built-in part or a plug-in in the options."""
        return tuple(named_in(self))

    def named_at_nodes(self) -> tuple[Named, ...]:
        """Return the names among them that a node imports."""
        return tuple(
            one for one in self.named() if one.kind in AT_NODES or (one.kind == "samplers" and self.nodes_draw)
        )

    def import_plugins(self) -> None:
        """Import the plug-ins that the options name, so that a broken one stops the run before any training.

        Raises:
            OptionError: importing a plug-in fails.
        """
        for one in self.named():
            if one.kind != "sources" and one.name not in built_in(one.kind):  # a source is the first to be imported
                load(one.kind, one.name, one.option, object)

    def pass_named(self, name: str) -> PassPlan:
        """Return the training of that name; raises OptionError if the run has none."""
        plans = {plan.name: plan for plan in self.passes()}
        if name not in plans:
            raise OptionError(f"The task must be one of this run's, {', '.join(plans)}, got {name!r}.")
        return plans[name]

    @classmethod
    def from_flat(cls, options: Mapping[str, object]) -> Self:
        """Read options that a user of this machine chose: flat, dotted, kebab-case, as Flower takes them.

        Raises:
            OptionError: an option is unknown, missing, of another type or out of range, or names a plug-in that is not
                installed; the error is about the first such option.
        """
        config = cls.received(options)
        for one in config.named():
            if one.kind != "sources":  # `data.sources.find_source` has a better error for those
                check_name(one.kind, one.name, one.option, one.beside)
        return config

    @classmethod
    def received(cls, options: Mapping[str, object]) -> Self:
        """Read options as `from_flat` does, but accept plug-ins that this machine lacks: others may have them."""
        if not any(name.startswith("plugin-task.") for name in options):  # a run of an older version
            names = [str(field.alias) for field in TrainingOptions.model_fields.values()]
            any_values = {f"plugin-task.{name}": options.get(f"classification.{name}") for name in names}
            options = {**any_values, "plugin-task.settings": "", **options}
        return read_section(cls, {**ADDED, **options})

    def to_flat(self) -> dict[str, OptionValue]:
        """Return the options flat, as Flower takes them; the inverse of `from_flat`."""
        return dict(flatten(self.model_dump(by_alias=True)))


def default_options(pyproject: Path) -> dict[str, OptionValue]:
    """Read the defaults from a pyproject.toml: {dotted name: value}."""
    document = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    return dict(flatten(document["tool"]["flwr"]["app"]["config"]))


def describe_options() -> Iterator[tuple[str, str]]:
    """Yield (dotted name, description) of every option of a run."""
    yield from describe_section(RunConfig)
