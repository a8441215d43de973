"""Options of the rounds: who takes part, which replies count, how nodes train and how their weights are averaged."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from fl_app.options.sections import BASELINES, Integers, Names, Plugin, Section, split_words
from fl_app.plugins import built_in

Reading = Literal["consistent", "piggyback", "local"]
Augmentation = Literal["flip", "shift"]
Readings = Annotated[tuple[Reading, ...], BeforeValidator(split_words)]
Flips = Annotated[tuple[Literal["flip"], ...], BeforeValidator(split_words)]
Augmentations = Annotated[tuple[Augmentation, ...], BeforeValidator(split_words)]


class FederationOptions(Section):
    """Which nodes to wait for, how long, and when to stop."""

    min_nodes: int = Field(
        ge=1, description="nodes that must be connected before the first round; later rounds need min-replies of them"
    )
    wait_seconds: float = Field(gt=0, description="time to wait for them, or for min-replies, before the run stops")
    nodes_per_round: int = Field(ge=0, description="nodes drawn each round, by seed; 0: all")
    min_replies: int = Field(
        ge=0,
        description="quorum: sites that a round needs to begin, and accepted replies with images that it needs to "
        "count; 0: 2, or 1 if min-nodes or nodes-per-round is 1",
    )
    round_deadline_seconds: float = Field(gt=0, description="replies that arrive later do not count")
    max_failed_rounds: int = Field(
        ge=1, description="failed rounds in a row after which the run stops; it can be resumed"
    )

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
    """Which replies are accepted and averaged."""

    max_weight: float = Field(ge=0, description="most images that a node may claim; 0: as many as it described")
    max_update_norm_ratio: float = Field(
        ge=0, description="reject an update longer than this many times the median of recent rounds; 0 turns it off"
    )
    norm_window: int = Field(ge=1, description="rounds that count as recent")


class StrategyOptions(Section):
    """Parameters of Flower's strategies; each description names the strategies that use it."""

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

    strategy: Annotated[str, Plugin("strategies")] = Field(description="how the nodes' weights are averaged")
    num_rounds: int = Field(ge=1, description="federated rounds")
    epochs: float = Field(
        gt=0, description="passes over a node's images in a round (E in the paper); 0.1: ten rounds make an epoch"
    )
    batch_size: int = Field(ge=1, description="images a step")
    optimizer: Literal["adam", "adamw", "sgd"] = Field(description="the node's optimiser: adam, adamw or sgd")
    learning_rate: float = Field(gt=0, description="step size in the first round")
    momentum: float = Field(
        ge=0, lt=1, description="sgd: share of the last step that is added to the next; 0 turns it off"
    )
    lr_schedule: Literal["constant", "cosine", "linear"] = Field(
        description="constant, or how the step size falls to 0 over the whole run: cosine or linear"
    )
    keep_optimizer_state: bool = Field(description="a node keeps the state of its optimiser between rounds")
    gradient_clip: float = Field(ge=0, description="largest gradient norm; 0 turns it off")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        description="auto: bfloat16 autocast on a GPU that supports it"
    )
    compile: bool = Field(description="torch.compile the model: slower start, faster steps on a GPU")


class PluginTaskOptions(TrainingOptions):
    """A task that a plug-in brings."""

    settings: str = Field(description="text that the task reads as it likes")


class DiffusionOptions(TrainingOptions):
    """The task `diffusion`: network, noise, averaging of weights."""

    label_dropout: float = Field(
        ge=0, lt=1, description="share of labels hidden in training, for guidance; 0 turns it off"
    )
    network: Annotated[str, Plugin("unets")] = Field(description="the U-Net")
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
            raise ValueError(f"node-ema is a mean over all nodes, which the strategy {self.strategy} is meant to avoid")
        return self


class ClassificationOptions(TrainingOptions):
    """The task `classification`: network, prototypes, heads, and baselines."""

    network: Annotated[str, Plugin("networks")] = Field(description="the network; cnn is two convolutions")
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
    head: Annotated[str, Plugin("heads", beside=("auto", "linear"))] = Field(
        description="which head ships. auto: the best on the nodes' held-out images by choose-by, and linear unless "
        "another one is better beyond the interval of choose-confidence, or linear is no better than always naming "
        "one class"
    )
    heads: Annotated[Names, Plugin("heads")] = Field(
        description="plug-ins built and measured besides the built-in heads, comma-separated; auto may choose them"
    )
    metrics: Annotated[Names, Plugin("metrics")] = Field(
        description="further figures of the classifier, comma-separated; they choose nothing"
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
        description="what makes an image too strange to answer: its distance from every prototype in the embedding, "
        "euclid, or mahalanobis (with the covariance of lda); mahalanobis-or-picture: that, or its brightness, "
        "contrast and roughness"
    )
    abstain_quantile: float = Field(
        gt=0,
        le=1,
        description="share of held-out images that get an answer; of two tests each may reject half of the others",
    )
    baselines: Annotated[Names, Plugin("strategies", beside=BASELINES)] = Field(
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
            raise ValueError(f"baselines must not name the strategy itself, {self.strategy}: the table has it anyway")
        late = [number for number in self.prototype_rounds if number > self.num_rounds]
        if late:
            raise ValueError(f"prototype-rounds must be at most num-rounds, {self.num_rounds}, got {late[0]}")
        return self

    @property
    def further_heads(self) -> tuple[str, ...]:
        """The plug-ins that are built in addition to the built-in heads."""
        shipped = () if self.head in ("auto", "linear", *built_in("heads")) else (self.head,)
        return tuple(dict.fromkeys((*shipped, *(name for name in self.heads if name not in built_in("heads")))))

    @property
    def exchange_rounds(self) -> frozenset[int]:
        """Rounds after which prototypes are exchanged."""
        return frozenset((*self.prototype_rounds, self.num_rounds))


class SamplingOptions(Section):
    """How images are drawn from the diffusion model."""

    sampler: Annotated[str, Plugin("samplers")] = Field(
        description="how noise becomes an image; ddim and ancestral (DDPM) lose fine texture unless they take very "
        "many steps"
    )
    num_steps: int = Field(
        ge=0, description="denoising steps; 0: the sampler's own, 12 for dpm-solver++, 100 for ddim, 1000 for ancestral"
    )
    guidance_scale: float = Field(
        ge=0, description="classifier-free guidance; 1 turns it off, larger follows the class more"
    )
    images_per_class: int = Field(ge=1, le=100, description="columns of the gallery")
