"""Options of the images and of the federation: where images come from, who takes part, and what is admitted."""

import unicodedata
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from fl_app.options.sections import Names, Plugin, Section

Scheme = Literal["iid", "dirichlet", "pathological", "shard", "linear", "square", "exponential", "sites"]


class DataOptions(Section):
    """Which images, how large, how many."""

    source: Annotated[str, Plugin("sources")] = Field(description="where images come from")
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
