"""Options of the trainings: how nodes train, how their weights are averaged, and what the models draw."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from fl_app.options.sections import BASELINES, Integers, Names, Plugin, Section, split_words
from fl_app.plugins import built_in

Reading = Literal["consistent", "piggyback", "local"]
Augmentation = Literal["flip", "shift"]
Readings = Annotated[tuple[Reading, ...], BeforeValidator(split_words)]
Flips = Annotated[tuple[Literal["flip"], ...], BeforeValidator(split_words)]
Augmentations = Annotated[tuple[Augmentation, ...], BeforeValidator(split_words)]


class StrategyOptions(Section):
    """Parameters of Flower's strategies; each description names the strategies that use it."""

    proximal_mu: float = Field(ge=0, description="FedProx: weight of the proximal term")
    server_learning_rate: float = Field(gt=0, description="FedAvgM: the server's step size")
    server_momentum: float = Field(ge=0, lt=1, description="FedAvgM: the server's momentum")
    eta: float = Field(gt=0, description="FedAdam, FedYogi, FedAdagrad: the server's step size")
    beta_1: float = Field(ge=0, lt=1, description="FedAdam, FedYogi: decay of the first moment")
    beta_2: float = Field(ge=0, lt=1, description="FedAdam, FedYogi: decay of the second moment")
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
    batch_size: int = Field(ge=1, description="images in a step")
    optimizer: Literal["adam", "adamw", "sgd"] = Field(description="the nodes' optimiser: adam, adamw or sgd")
    learning_rate: float = Field(gt=0, description="step size in the first round")
    momentum: float = Field(
        ge=0, lt=1, description="sgd: share of the last step that is added to the next step; 0 turns it off"
    )
    lr_schedule: Literal["constant", "cosine", "linear"] = Field(
        description="constant, or how the step size falls to 0 over the whole run: cosine or linear"
    )
    keep_optimizer_state: bool = Field(description="nodes keep the state of their optimiser between rounds")
    gradient_clip: float = Field(ge=0, description="largest gradient norm; 0 turns it off")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        description="float32, bfloat16 (autocast), or auto: bfloat16 on a GPU that supports it, else float32"
    )
    compile: bool = Field(description="torch.compile the model: slower start, faster steps on a GPU")


class PluginTaskOptions(TrainingOptions):
    """A task that a plug-in brings."""

    settings: str = Field(description="text that the plug-in interprets")


class DiffusionOptions(TrainingOptions):
    """The task `diffusion`: network, noise, averaging of weights."""

    label_dropout: float = Field(
        ge=0, lt=1, description="share of labels hidden in training, for guidance; 0 turns it off"
    )
    network: Annotated[str, Plugin("unets")] = Field(description="the U-Net")
    num_timesteps: int = Field(ge=2, description="noise levels T of the linear schedule")
    block_channels: Integers = Field(min_length=1, description="channels of the U-Net's levels, comma-separated")
    layers_per_block: int = Field(ge=1, description="residual layers in each level")
    mid_attention: bool = Field(description="self-attention in the middle of the U-Net")
    ema_horizon: float = Field(
        ge=0,
        le=1,
        description="averaging time of the server's EMA as a share of the rounds; 0: no EMA. "
        "Nodes measure the EMA in rounds with a checkpoint or a gallery",
    )
    loss_weight: Literal["eps", "v", "min-snr"] = Field(
        description="weight of each noise level in training: eps (error in the noise, as in the paper), v (plain error "
        "in v) or min-snr (error in the image, weighted by the signal-to-noise ratio, at most 5)"
    )
    augment: Flips = Field(description="changes to training images, comma-separated: flip; empty: none")
    dropout: float = Field(ge=0, lt=1, description="share of activations dropped in training; 0: none")
    node_ema: bool = Field(
        description="nodes also average their weights over their steps, and the server averages these averages"
    )
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
            raise ValueError(
                f"node-ema is a plain mean over all nodes, so it does not fit the strategy {self.strategy}"
            )
        return self


class ClassificationOptions(TrainingOptions):
    """The task `classification`: network, prototypes, heads, and baselines."""

    network: Annotated[str, Plugin("networks")] = Field(description="the network; cnn has two convolutions")
    embedding_size: int = Field(ge=1, description="cnn: size D of the embedding; that of resnet18 is 512")
    augment: Augmentations = Field(description="changes to training images, comma-separated: flip, shift; empty: none")
    label_smoothing: float = Field(
        ge=0, lt=1, description="share of each label that is spread over all classes in training; 0: none"
    )
    replay: Literal["none", "generated", "oversample", "class-weights", "logit-adjusted"] = Field(
        description="what a node does in training about classes that it lacks or holds few of: none; generated (adds "
        "images of the run's diffusion model, which needs the task diffusion before this one); oversample (repeats its "
        "own); class-weights (weighs rare classes more); logit-adjusted (adds the log of its class "
        "shares to the scores)"
    )
    replay_ratio: float = Field(
        gt=0,
        le=10,
        description="generated, oversample: classes are topped up to this many times the images of the node's largest "
        "class",
    )
    replay_images: int = Field(ge=1, le=100_000, description="generated: most images of a class that a node draws")
    replay_seconds: float = Field(
        gt=0, description="generated: time after which a node draws no more, once a run; fewer images are used then"
    )
    replay_kept: float = Field(
        gt=0,
        le=1,
        description="generated: share of the images of each class that are used in a round: those that the received "
        "classifier is most sure of; all in round 1",
    )
    readings: Readings = Field(
        min_length=1,
        description="networks with which prototypes are measured and used, comma-separated; the first one ships: "
        "consistent (the averaged network for both), piggyback (measured with each node's own network, used with the "
        "averaged one), local (each node's own for both)",
    )
    prototype_rounds: Integers = Field(
        description="rounds after which prototypes are exchanged, comma-separated, besides the last round"
    )
    shrinkage: float = Field(ge=0, description="lda, fedcof: share of the mean variance added to every variance")
    head: Annotated[str, Plugin("heads", beside=("auto", "linear"))] = Field(
        description="the head that ships. auto: linear, unless another head is better in choose-by on held-out images, "
        "beyond the interval of choose-confidence; if linear is no better than always naming one class, any better head"
    )
    heads: Annotated[Names, Plugin("heads")] = Field(
        description="plug-ins to build and measure besides the built-in heads, comma-separated; auto may choose them"
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
        description="level of the paired interval that must lie above 0 before a head replaces linear; 0: any better "
        "head replaces it",
    )
    prior: Literal["training", "equal"] = Field(
        description="lda: prior of each class: training (its share of the training images) or equal"
    )
    abstain_by: Literal["euclid", "mahalanobis", "mahalanobis-or-picture"] = Field(
        description="what makes `abstain` true: euclid or mahalanobis (with the covariance of lda): the distance from "
        "every prototype in the embedding; mahalanobis-or-picture: also unusual brightness, contrast or roughness"
    )
    abstain_quantile: float = Field(
        gt=0,
        le=1,
        description="share of held-out images with `abstain` false; each of two tests may reject half of the rest",
    )
    baselines: Annotated[Names, Plugin("strategies", beside=BASELINES)] = Field(
        description="trainings to compare with, comma-separated: local (each node alone), centralised (all images "
        "together, simulations only), or a strategy; empty: none"
    )

    @model_validator(mode="after")
    def _options_fit_together(self) -> Self:
        if self.readings[0] == "local":
            raise ValueError(
                "readings must begin with consistent or piggyback: the first one ships, and with local each node has "
                "a network of its own"
            )
        for what, names in (("readings", self.readings), ("baselines", self.baselines)):
            if len(set(names)) < len(names):
                raise ValueError(f"{what} must name each one once, got {', '.join(names)}")
        if self.strategy in self.baselines:
            raise ValueError(f"baselines must not name the strategy itself, {self.strategy}: the table always has it")
        late = [number for number in self.prototype_rounds if number > self.num_rounds]
        if late:
            raise ValueError(f"prototype-rounds must be at most num-rounds, {self.num_rounds}, got {late[0]}")
        return self

    @property
    def further_heads(self) -> tuple[str, ...]:
        """The heads of plug-ins to build besides the built-in heads."""
        shipped = () if self.head in ("auto", "linear", *built_in("heads")) else (self.head,)
        return tuple(dict.fromkeys((*shipped, *(name for name in self.heads if name not in built_in("heads")))))

    @property
    def exchange_rounds(self) -> frozenset[int]:
        """Rounds after which prototypes are exchanged."""
        return frozenset((*self.prototype_rounds, self.num_rounds))


class SamplingOptions(Section):
    """How the diffusion model draws images."""

    sampler: Annotated[str, Plugin("samplers")] = Field(
        description="method that turns noise into images; ddim and ancestral (DDPM) lose fine texture unless they take "
        "very many steps"
    )
    num_steps: int = Field(
        ge=0, description="denoising steps; 0: the sampler's own, 12 for dpm-solver++, 100 for ddim, 1000 for ancestral"
    )
    guidance_scale: float = Field(
        ge=0,
        description="strength of classifier-free guidance; 1 turns it off, larger values follow the class more closely",
    )
    images_per_class: int = Field(ge=1, le=100, description="columns of the gallery")
