"""Options of the rounds: who takes part, and which replies count."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from fl_app.options.sections import Names, Section, is_site_name

_LONGEST_ID = 21  # digits: one more than Flower's largest node id has


class FederationOptions(Section):
    """Which nodes to wait for, how long, and when to stop."""

    min_nodes: int = Field(
        ge=1, description="sites, fit to take part, that the first round waits for; later rounds need min-replies"
    )
    wait_seconds: float = Field(gt=0, description="seconds to wait for min-nodes or min-replies before the run stops")
    nodes_per_round: int = Field(ge=0, description="nodes drawn for each round, by seed; 0: all")
    min_replies: int = Field(
        ge=0,
        description="quorum: sites that a round needs to start, and accepted replies of sites with images that it "
        "needs to count; 0: 2, or 1 if min-nodes or nodes-per-round is 1",
    )
    round_deadline_seconds: float = Field(
        gt=0, description="seconds of a round; replies that arrive later do not count"
    )
    max_failed_rounds: int = Field(
        ge=1, description="failed rounds in a row after which the run stops; it can be resumed"
    )

    sites: Names = Field(
        description="which node is which site: <node id>=<name>, comma-separated, as `fl-app sites` prints them from "
        "the SuperLink's registration. Then only these nodes take part, each under its own name; empty: names are "
        "unverified. Needs node keys; `fl-app run` ignores it, since simulated nodes have new ids in each run"
    )

    @field_validator("sites")
    @classmethod
    def _are_nodes_and_names(cls, sites: tuple[str, ...]) -> tuple[str, ...]:
        """Reject a list in which a node id or a name is impossible, or stands twice."""
        pairs = [site.partition("=")[::2] for site in sites]
        for site, (node, name) in zip(sites, pairs, strict=True):
            if not (node.isdecimal() and 0 < int(node[:_LONGEST_ID]) < 2**64 and is_site_name(name)):
                raise ValueError(
                    f"must hold pairs such as 1234567890=north, as `fl-app sites` prints them, got {site!r}"
                )
        for what, found in (("node", [str(int(node)) for node, _ in pairs]), ("name", [name for _, name in pairs])):
            if twice := next((one for one in found if found.count(one) > 1), None):
                raise ValueError(f"must name each site once, got the {what} {twice} twice")
        return sites

    @property
    def bound(self) -> dict[int, str]:
        """The sites' names by node id; empty: names are not bound."""
        return {int(node): name for node, name in (site.split("=") for site in self.sites)}

    @model_validator(mode="after")
    def _enough_sites_are_named(self) -> Self:
        if 0 < len(self.sites) < self.nodes_at_start:
            raise ValueError(
                f"sites must name at least as many sites as the first round needs, {self.nodes_at_start}, got "
                f"{len(self.sites)}"
            )
        return self

    @model_validator(mode="after")
    def _quorum_can_be_reached(self) -> Self:
        if 0 < self.nodes_per_round < self.min_replies:
            raise ValueError(
                f"min-replies must be at most nodes-per-round, {self.nodes_per_round}, got {self.min_replies}"
            )
        return self

    @property
    def quorum(self) -> int:
        """The number of sites that a round needs."""
        return self.min_replies or min(2, self.min_nodes, self.nodes_per_round or 2)

    @property
    def nodes_at_start(self) -> int:
        """The number of sites that the first round of a run needs."""
        return max(self.min_nodes, self.quorum)


class AdmissionOptions(Section):
    """Which replies are accepted and averaged."""

    max_weight: float = Field(
        ge=0,
        description="most images that a node may claim to train on: a reply that claims more is rejected; 0: as many "
        "as the node described",
    )
    max_share: float = Field(
        ge=0,
        le=1,
        description="largest share of a round's total weight that a site may carry: a reply above it counts, with less "
        "weight; below 1 / number of sites: all get the same weight; 0: no cap. FedMedian, FedTrimmedAvg and Krum do "
        "not weigh by images",
    )
    max_update_norm_ratio: float = Field(
        ge=0,
        description="reject an update longer than this many times the median of recent rounds, or one array of it "
        "longer than twice as many times; 0 turns it off",
    )
    norm_window: int = Field(ge=1, description="rounds over which max-update-norm-ratio takes the median")
