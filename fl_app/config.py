"""Every option of a run, checked at the door; the defaults stand in pyproject.toml and nowhere else."""

import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from fl_app.errors import OptionError
from fl_app.incoming import LONGEST_NAME
from fl_app.sections import OptionValue, Section, describe_section, flatten, read_section

StrategyName = Literal[
    "FedAvg", "FedProx", "FedAvgM", "FedAdam", "FedYogi", "FedAdagrad", "FedMedian", "FedTrimmedAvg", "Krum"
]
NetworkName = Literal["cnn", "resnet18"]
HeadName = Literal["linear", "nearest-mean", "cosine", "lda", "fedcof"]
Reading = Literal["consistent", "piggyback", "local"]
Augmentation = Literal["flip", "shift"]
SamplerName = Literal["ddim", "dpm-solver++", "ancestral"]
Scheme = Literal["iid", "dirichlet", "pathological", "shard", "linear", "square", "exponential", "sites"]


SAFE_NAME = r"\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?"  # never `.` or `..`, since it names folders

_BASELINES = ("local", "centralised")
_TASKS = ("diffusion", "classification")


def _split(value: object) -> object:
    """Read a comma-separated option: Flower's options know no lists."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
Readings = Annotated[tuple[Reading, ...], BeforeValidator(_split)]
Flips = Annotated[tuple[Literal["flip"], ...], BeforeValidator(_split)]
Augmentations = Annotated[tuple[Augmentation, ...], BeforeValidator(_split)]
Integers = Annotated[tuple[Annotated[int, Field(ge=1, strict=False)], ...], BeforeValidator(_split)]


class DataOptions(Section):
    """Which images, how large, how many."""

    source: str = Field(description="digits, mnist, fashion-mnist, folder, or a flag of MedMNIST such as breastmnist")
    directory: str = Field(
        description="where the files lie; empty: $FL_APP_DATA, else a download into the user's cache"
    )
    image_size: int = Field(ge=0, le=512, description="side in pixels after resizing; 0 keeps the source's own size")
    limit: int = Field(
        ge=0,
        description="images taken from the whole training set, the same share of each class, and that share of a part "
        "val; 0: all",
    )
    validation_share: float = Field(
        ge=0,
        lt=1,
        description="share of a node's images held out, if the images have no part val of their own; 0 turns it off",
    )
    test_share: float = Field(
        ge=0,
        lt=1,
        description="share of a folder's images, or patients, tested on, if it has no part test of its own; 0: no test "
        "set. Public sets have theirs",
    )
    class_names: Names = Field(
        description="source folder only: the agreed class names, comma-separated, in label order; empty: as the "
        "folders have them, which must all agree"
    )
    num_channels: Literal[0, 1, 3] = Field(
        description="source folder only: 1 grey, 3 RGB; 0: as the folders have them, which must all agree"
    )

    @field_validator("class_names")
    @classmethod
    def _are_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """Compose accents, which systems write in two ways; and refuse what was meant as a list of another form."""
        for name in names:
            if set(name) & set(';[]"'):
                raise ValueError(f"class names are separated by commas and have no quotes, got {name!r}")
        return tuple(unicodedata.normalize("NFC", name) for name in names)


class PartitionOptions(Section):
    """How a simulation shares one data set out among its nodes."""

    scheme: Scheme = Field(
        description="how images are shared out: iid, dirichlet, pathological, shard, linear, square, exponential; or "
        "sites: each folder below data.directory is a site of that name, and they are not shared out at all"
    )
    alpha: float = Field(gt=0, description="dirichlet: small is skewed, large is even")
    classes_per_node: int = Field(ge=1, description="pathological: classes that each node holds")
    shards_per_node: int = Field(ge=1, description="shard: label-sorted shards that each node gets")


class FederationOptions(Section):
    """Whom to wait for, how long, and when to give up."""

    min_nodes: int = Field(
        ge=1, description="nodes that must be connected before the first round; later rounds need min-replies of them"
    )
    wait_seconds: float = Field(gt=0, description="how long to wait for them, or for min-replies, before the run stops")
    nodes_per_round: int = Field(ge=0, description="nodes drawn each round, by seed; 0: all")
    min_replies: int = Field(
        ge=0,
        description="quorum: sites that a round needs to begin, and fit replies with images that it needs to count; "
        "0: 2, or 1 where one node is all that was asked for",
    )
    round_deadline_seconds: float = Field(gt=0, description="replies that come later are left out of the round")
    max_failed_rounds: int = Field(ge=1, description="failed rounds in a row after which the run stops, resumable")

    @model_validator(mode="after")
    def _quorum_can_be_reached(self) -> Self:
        if 0 < self.nodes_per_round < self.min_replies:
            raise ValueError(f"min-replies is {self.min_replies}, but nodes-per-round asks {self.nodes_per_round} only")
        return self

    @property
    def quorum(self) -> int:
        """Sites that a round needs."""
        return self.min_replies or min(2, self.min_nodes, self.nodes_per_round or 2)

    @property
    def nodes_at_start(self) -> int:
        """Nodes that the first round of a run waits for."""
        return max(self.min_nodes, self.quorum)


class AdmissionOptions(Section):
    """Which replies are fit to be averaged."""

    max_weight: float = Field(ge=0, description="cap on the images a node may claim; 0: as many as it described")
    max_update_norm_ratio: float = Field(
        ge=0, description="refuse an update longer than this many times the median of recent rounds; 0 turns it off"
    )
    norm_window: int = Field(ge=1, description="rounds that count as recent")


class StrategyOptions(Section):
    """Parameters of Flower's strategies; each one says which strategies read it."""

    proximal_mu: float = Field(ge=0, description="FedProx: weight of the proximal term")
    server_learning_rate: float = Field(gt=0, description="FedAvgM")
    server_momentum: float = Field(ge=0, lt=1, description="FedAvgM")
    eta: float = Field(gt=0, description="FedAdam, FedYogi, FedAdagrad: the server's step size")
    beta_1: float = Field(ge=0, lt=1, description="FedAdam, FedYogi")
    beta_2: float = Field(ge=0, lt=1, description="FedAdam, FedYogi")
    tau: float = Field(gt=0, description="FedAdam, FedYogi, FedAdagrad: degree of adaptivity")
    trim_fraction: float = Field(ge=0, lt=0.5, description="FedTrimmedAvg: share cut off at each end")
    num_malicious_nodes: int = Field(ge=0, description="Krum: nodes assumed to be malicious")


class TrainingOptions(Section):
    """Local training at a node, and how often the nodes' weights are averaged."""

    strategy: StrategyName = Field(
        description="FedAvg, FedProx, FedAvgM, FedAdam, FedYogi, FedAdagrad, FedMedian, FedTrimmedAvg or Krum"
    )
    num_rounds: int = Field(ge=1, description="federated rounds")
    epochs: float = Field(
        gt=0, description="passes over a node's images in a round (E in the paper); 0.1: ten rounds make an epoch"
    )
    batch_size: int = Field(ge=1, description="images a step")
    optimizer: Literal["adam", "adamw", "sgd"] = Field(description="the node's optimiser: adam, adamw or sgd")
    learning_rate: float = Field(gt=0, description="step size in the first round")
    momentum: float = Field(ge=0, lt=1, description="sgd: share of the last step that is taken again; 0 turns it off")
    lr_schedule: Literal["constant", "cosine", "linear"] = Field(
        description="constant, or how the step size falls to 0 over the whole run: cosine or linear"
    )
    keep_optimizer_state: bool = Field(description="a node keeps its optimiser's state between rounds")
    gradient_clip: float = Field(ge=0, description="largest gradient norm; 0 turns it off")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        description="auto: bfloat16 autocast on CUDA where it can"
    )
    compile: bool = Field(description="torch.compile the model: slower start, faster steps on a GPU")


class DiffusionOptions(TrainingOptions):
    """The task `diffusion`: network, noise, averaging of weights."""

    label_dropout: float = Field(
        ge=0, lt=1, description="share of labels hidden in training, for guidance; 0 turns it off"
    )
    num_timesteps: int = Field(ge=2, description="noise levels T of the linear schedule")
    block_channels: Integers = Field(min_length=1, description="channels of the U-Net's levels, comma-separated")
    layers_per_block: int = Field(ge=1, description="residual layers a level")
    mid_attention: bool = Field(description="self-attention in the middle of the U-Net")
    ema_horizon: float = Field(
        ge=0,
        le=1,
        description="averaging time of the server's EMA as a share of the rounds; 0: none. "
        "Nodes measure it in rounds with a checkpoint or a gallery",
    )
    loss_weight: Literal["eps", "v", "min-snr"] = Field(
        description="weight of a noise level in training: eps (the error in the noise, as the paper), v (the plain "
        "error in v) or min-snr (the error in the image, weighted by the signal-to-noise ratio, at most 5)"
    )
    augment: Flips = Field(description="changes to training images, comma-separated: flip; empty: none")
    dropout: float = Field(ge=0, lt=1, description="share of activations dropped in training; 0: none")
    node_ema: bool = Field(description="nodes also average their own steps, and the server averages those averages")
    node_ema_horizon: float = Field(
        gt=0, le=1, description="averaging time of the nodes' EMA as a share of the whole training"
    )

    @model_validator(mode="after")
    def _options_fit_together(self) -> Self:
        first = min(self.block_channels)
        if first % 4 or any(channels % (first // 4) for channels in self.block_channels):
            raise ValueError(
                f"block-channels must be multiples of 4, and of a quarter of the smallest, got {self.block_channels}"
            )
        if self.node_ema and self.strategy in ("FedMedian", "FedTrimmedAvg", "Krum"):
            raise ValueError(f"node-ema is a mean over all nodes, which strategy {self.strategy} is there to avoid")
        return self


class ClassificationOptions(TrainingOptions):
    """The task `classification`: network, prototypes of the last round, and what they are compared with."""

    network: NetworkName = Field(description="cnn: two convolutions; resnet18; both with GroupNorm")
    embedding_size: int = Field(ge=1, description="cnn: size D of the embedding; resnet18 has 512")
    augment: Augmentations = Field(description="changes to training images, comma-separated: flip, shift; empty: none")
    readings: Readings = Field(
        min_length=1,
        description="whose features the prototypes are measured and used with, comma-separated; the first one ships: "
        "consistent (the averaged network), piggyback (measured with each node's own), local (used with it, too)",
    )
    prototype_rounds: Integers = Field(
        description="rounds after which prototypes are exchanged, comma-separated; the last round always is one"
    )
    shrinkage: float = Field(ge=0, description="lda, fedcof: share of the mean variance added to every variance")
    head: Literal["auto", HeadName] = Field(
        description="which head ships: linear, nearest-mean, cosine, lda, fedcof, or auto: the best one on the nodes' "
        "held-out images by choose-by, and linear unless another one is better beyond the interval of choose-confidence"
    )
    choose_by: Literal["accuracy", "balanced-accuracy", "auc"] = Field(
        description="figure by which head = auto chooses: accuracy, balanced-accuracy or auc"
    )
    choose_confidence: float = Field(
        ge=0,
        lt=1,
        description="level of the paired interval that must lie above 0 before a head replaces linear; 0: any better",
    )
    prior: Literal["training", "equal"] = Field(
        description="lda: how likely classes are beforehand: training (their shares of the training images) or equal"
    )
    abstain_by: Literal["euclid", "mahalanobis", "mahalanobis-or-picture"] = Field(
        description="what makes an image too strange to answer: its distance from every prototype, in the embedding: "
        "euclid, or mahalanobis (with the covariance of lda); mahalanobis-or-picture: that, or its brightness, "
        "contrast and roughness"
    )
    abstain_quantile: float = Field(
        gt=0,
        le=1,
        description="share of held-out images that are not too strange for an answer; two tests share the others",
    )
    baselines: Names = Field(
        description="what to train for comparison, comma-separated: local (each node alone), centralised (all images "
        "together, simulations only), or the name of a strategy; empty: nothing"
    )

    @model_validator(mode="after")
    def _options_fit_together(self) -> Self:
        if self.readings[0] == "local":
            raise ValueError(
                "readings must begin with consistent or piggyback: with local each node has a network of its own, and "
                "none ships"
            )
        for what, names in (("readings", self.readings), ("baselines", self.baselines)):
            if len(set(names)) < len(names):
                raise ValueError(f"{what} must name each one once, got {', '.join(names)}")
        if self.strategy in self.baselines:
            raise ValueError(f"baselines must not name the strategy itself, {self.strategy}: it stands in the table")
        late = [number for number in self.prototype_rounds if number > self.num_rounds]
        if late:
            raise ValueError(f"prototype-rounds must be at most num-rounds, {self.num_rounds}, got {late[0]}")
        for name in self.baselines:
            if name not in (*_BASELINES, *StrategyName.__args__):  # type: ignore[attr-defined]
                raise ValueError(f"baselines must name local, centralised or a strategy, got {name!r}")
        return self

    @property
    def exchange_rounds(self) -> frozenset[int]:
        """Rounds after which prototypes are exchanged."""
        return frozenset((*self.prototype_rounds, self.num_rounds))


class SamplingOptions(Section):
    """How images are drawn from the diffusion model."""

    sampler: SamplerName = Field(
        description="dpm-solver++; or ddim, ancestral (DDPM), which lose fine texture unless they take very many steps"
    )
    num_steps: int = Field(
        ge=0, description="denoising steps; 0: the sampler's own, 25 for dpm-solver++, 100 for ddim, 1000 for ancestral"
    )
    guidance_scale: float = Field(
        ge=0, description="classifier-free guidance; 1 turns it off, larger follows the class more"
    )
    images_per_class: int = Field(ge=1, le=100, description="columns of the gallery")


class RunConfig(Section):
    """All options of a run, one section per concern."""

    tasks: Names = Field(
        min_length=1, description="what to train, comma-separated, in order: diffusion, classification"
    )
    recipe: str = Field(pattern=rf"^{SAFE_NAME}$", description="a name for this set of options; part of the run's name")
    seed: int = Field(ge=0, description="every random number of the run follows from it")
    output_dir: str = Field(description="where run folders are made; empty: ~/fl-app/runs")
    run_name: str = Field(
        pattern=rf"^({SAFE_NAME})?$", description="name of the run folder; empty: <time>-<recipe>-<id>"
    )
    resume: str = Field(
        description="a run folder to go on with, or auto: the newest unfinished one of the same options"
    )
    checkpoint_every: int = Field(ge=1, description="rounds between checkpoints")
    gallery_every: int = Field(ge=0, description="rounds between galleries; 0: only one, at the end")
    data: DataOptions
    partition: PartitionOptions
    federation: FederationOptions
    admission: AdmissionOptions
    strategy: StrategyOptions
    diffusion: DiffusionOptions
    classification: ClassificationOptions
    sampling: SamplingOptions

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
    def _tasks_are_known(self) -> Self:
        for task in self.tasks:
            if task not in _TASKS:
                raise ValueError(f"tasks must name {' or '.join(_TASKS)}, got {task!r}")
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks must name each task once, got {', '.join(self.tasks)}")
        return self

    def passes(self) -> tuple[str, ...]:
        """Return the name of each training of the run, in order: the tasks, a task's baselines right after it."""
        names = []
        for task in self.tasks:
            names.append(task)
            if task == "classification":
                names += [f"{task}-{baseline.lower()}" for baseline in self.classification.baselines]
        return tuple(names)

    def options_of(self, name: str) -> TrainingOptions:
        """Return the options of a pass: those of its task, with the strategy that its baseline names."""
        if name == "diffusion":
            return self.diffusion
        named = {strategy.lower(): strategy for strategy in StrategyName.__args__}  # type: ignore[attr-defined]
        plain = dict.fromkeys(_BASELINES, "FedAvg")  # nothing of the server's strategy is in them
        strategy = (named | plain).get(baseline_of(name), self.classification.strategy)
        return self.classification.model_copy(update={"strategy": strategy})

    @classmethod
    def from_flat(cls, options: Mapping[str, object]) -> Self:
        """Read options as Flower hands them over: flat, dotted, kebab-case.

        Raises:
            OptionError: naming the first option that is unknown, missing, of another type or out of range.
        """
        return read_section(cls, options)

    def to_flat(self) -> dict[str, OptionValue]:
        """Return the options as Flower takes them; the inverse of `from_flat`."""
        return dict(flatten(self.model_dump(by_alias=True)))


class NodeConfig(Section):
    """What a node decides for itself; no option of a run overrides it.

    In a simulation Flower sets `partition-id` and `num-partitions`; a hospital sets `data-path` and `site`. Nobody sets
    both; a simulated node gets all four where it stands for a site: see `fl_app.data.sites`.
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
    tell_class_names: bool = False  # the names of its classes may leave the node where a run states none

    @property
    def state_folder(self) -> Path:
        """Return the folder that a hospital's node keeps its state in."""
        return Path(self.state_dir).expanduser() if self.state_dir else Path.home() / "fl-app" / "state"

    @model_validator(mode="after")
    def _tasks_are_known(self) -> Self:
        for task in self.tasks_allowed:
            if task not in _TASKS:
                raise ValueError(f"tasks-allowed must name {' or '.join(_TASKS)}, got {task!r}")
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


def is_site_name(name: str) -> bool:
    """Tell whether a site may be called that: letters, digits, `_`, `-`, single dots, not too long."""
    return len(name) <= LONGEST_NAME and re.fullmatch(SAFE_NAME, name) is not None


def baseline_of(name: str) -> str:
    """Return the baseline that a pass trains, in lower case; empty for a task itself."""
    return name.partition("-")[2]


def task_of(name: str) -> str:
    """Return the task that a pass trains; its baselines begin with the same weights and draw the same numbers."""
    return name.partition("-")[0]


def default_options(pyproject: Path) -> dict[str, OptionValue]:
    """Read the defaults from a pyproject.toml: {dotted name: value}."""
    document = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    return dict(flatten(document["tool"]["flwr"]["app"]["config"]))


def describe_options() -> Iterator[tuple[str, str]]:
    """Yield (dotted name, description) of every option of a run."""
    yield from describe_section(RunConfig)
