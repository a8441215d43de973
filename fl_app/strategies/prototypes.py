"""Federated averaging of a classifier, and class prototypes exchanged in the last round (Qiao et al. 2023)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from fl_app.classification.comparing import contradicted, out_of_scale
from fl_app.classification.heads import to_arrays
from fl_app.classification.judging import check_head_sums, check_site_moments
from fl_app.classification.left_out import (
    LeftOut,
    blank_left_out,
    heads_without,
    left_out_figures,
)
from fl_app.classification.measuring import MEASURED_WITH, HeadSet, Scorer, blank_head_sums
from fl_app.classification.selection import (
    LINEAR,
    Built,
    HeadRow,
    PrototypeMethod,
    Selection,
    build,
    part_of,
    rows,
    select,
)
from fl_app.errors import RejectedReply
from fl_app.messages.arrays import Weights
from fl_app.messages.records import HEADS, MOMENTS, add_heads, left_out_record
from fl_app.strategies.node_outcome import NodeOutcome
from fl_app.strategies.outcomes import Snapshot, Traffic
from fl_app.strategies.resilient import Resilient
from fl_app.strategies.setup import Setup
from fl_app.strategies.transport import PackedWire
from fl_app.sums import FEWEST_SITES, Sums, add

_OWN = "own/"  # prefix of the sums that a node measures with its own network
_OWN_SUMS = "own-sums"  # of them in a state


@dataclass(frozen=True)
class Exchange:
    """What an exchange of prototypes came to.

    Attributes:
        round_number: after which round.
        is_last: whether its heads ship.
        weights: of the averaged network.
        heads: that the sites measured.
        pooled: moments of all sites, by what they were measured with.
        source: what those of the heads that ship were measured with.
        undefined: why a head is not defined, by `<reading>/<head>`.
        scorers: reading and head of everything that was measured.
        measured: the sums of each site.
        total: the sums of all sites.
        contributed: sites whose moments are in the prototypes that ship.
        left_out: what became of the other sites.
        traffic: of the moments and of the heads.
        test_set: whose test images were measured, `common` or `own parts`; None: there are none.
        selection: what ships.
        results: figures of every head on both parts, over all sites.
        left_out_heads: what heads reach at sites whose moments they lack; None: not measured.
    """

    round_number: int
    is_last: bool
    weights: Weights
    heads: HeadSet
    pooled: dict[str, dict[str, NDArray[np.float64]]]
    source: str
    undefined: dict[str, str]
    scorers: list[Scorer]
    measured: dict[str, Sums]
    total: Sums
    contributed: list[str]
    left_out: dict[str, NodeOutcome]
    traffic: dict[str, Traffic]
    test_set: str | None
    selection: Selection
    results: list[HeadRow]
    left_out_heads: LeftOut | None = None


class PrototypeRounds(Resilient):
    """Mixin placed before a Flower strategy in the MRO: rounds that train a classifier, and end with prototypes.

    After the last round, and after those of `method.rounds`, every node embeds its training images with the averaged
    network and sends, for each class, their number and sum, and the second moment of all. The sums of the nodes add up
    to prototypes, the mean embedding of each class, and to heads that need no training. The nodes measure these on
    held-out images; those decide which head ships.

    Attributes:
        method: readings, heads and how one is chosen.
        exchanges: what the exchanges of this process came to, by round.
        own_sums: what nodes measured with their own networks in the last round that asks for it, by site.
    """

    def __init__(self, *, method: PrototypeMethod, setup: Setup | None = None, **flower: Any) -> None:
        """Take Flower's own arguments, and these.

        Args:
            method: as above.
            setup: what the run says; None: an ordinary Flower app.
            flower: of the strategy behind this one.
        """
        super().__init__(setup=setup, **flower)
        self.method = method
        self.exchanges: dict[int, Exchange] = {}
        self.own_sums: dict[str, Sums] = {}

    def sends_own_sums(self, number: int) -> bool:
        """Tell whether the replies of a round hold the moments of the nodes' own networks."""
        return self.method.uses_own_networks and (number in self.method.rounds or number == self.num_rounds)

    def before_round(self, grid: Grid, number: int, weights: Weights) -> None:
        """Exchange prototypes after the round before, if that is due and not done yet."""
        if self.setup.drawing is not None:
            self.setup.drawing.ask_new(self, grid)
        before = number - 1
        if before in self.method.rounds and before not in self.setup.exchanged:
            self.exchange(grid, before, weights)
        if self.sends_own_sums(number):
            self.own_sums = {}

    def after_training(self, number: int, after: Weights | None) -> None:
        """Remember what the nodes measured with their own networks; nothing of a round that failed."""
        if self.sends_own_sums(number) and after is not None:
            blank = self.method.blank_moments()
            sums = self.record.sums()
            self.own_sums = {site: {key: part[f"{_OWN}{key}"] for key in blank} for site, part in sums.items()}

    def after_rounds(self, grid: Grid, weights: Weights, number: int) -> None:
        """Exchange prototypes after the last round."""
        self.exchange(grid, number, weights, is_last=True)

    def expected_sums(self) -> Sums:
        """Return sums of zero images as a reply must have them: those of the nodes' own networks, too."""
        sums = dict(super().expected_sums())
        if self.sends_own_sums(self.record.round_number):
            sums |= {f"{_OWN}{key}": value for key, value in self.method.blank_moments().items()}
        return sums

    def exchange(self, grid: Grid, number: int, weights: Weights, is_last: bool = False) -> None:
        """Collect moments, build heads from them, and let the nodes measure the heads."""
        method, traffic = self.method, {"moments": Traffic(), "heads": Traffic()}
        parts, left_out = self._collect(grid, number, weights, traffic["moments"])
        built = build(method, weights, self.who.held_classes(method.num_classes), parts)
        content = self.instruction(number, weights)
        add_heads(content, built.heads.to_arrays())
        scorers = built.heads.scorers(method.measured_readings)
        blank = blank_head_sums(scorers, method.num_classes, built.heads.with_joint, method.metrics)

        def judge(site: str, sums: Sums) -> None:
            known = self.who.described(site)
            check_head_sums(sums, known.validation_counts if known else None, known.test_counts if known else None)

        source = MEASURED_WITH[method.shipped_reading]
        own = self._left_out(built, parts) if is_last else None
        names = list(built.heads.heads[source]) if own else []
        blank |= blank_left_out(names)
        measured, outcomes = self.ask(grid, HEADS, content, blank, traffic["heads"], judge, own)
        total = add([blank, *measured.values()])
        test_set = self.who.test_parts() if part_of(total, "test", *LINEAR)["confusion"].any() else None
        if method.is_alone:
            scorers.remove(LINEAR)  # the mean of networks that were trained apart
        found = Exchange(
            round_number=number,
            is_last=is_last,
            weights=weights,
            heads=built.heads,
            pooled=built.pooled,
            source=source,
            undefined=built.undefined,
            scorers=scorers,
            measured=measured,
            total=total,
            contributed=sorted(site for site, sums in parts.get(source, {}).items() if sums["count"].any()),
            left_out=left_out | _without_contributors(outcomes),
            traffic=traffic,
            test_set=test_set,
            selection=select(method, built.heads, scorers, total, measured),
            results=rows(scorers, total, len(measured)),
            left_out_heads=left_out_figures(total, names) if names else None,
        )
        self.exchanges[number] = found
        self.setup.on_exchange(found)

    def state(self) -> tuple[dict[str, NDArray[np.generic]], dict[str, object]]:
        """Return the state, with the sums of the nodes' own networks."""
        arrays, values = super().state()
        for site, sums in self.own_sums.items():
            arrays.update({f"{_OWN_SUMS}/{site}/{_OWN}{key}": np.asarray(value) for key, value in sums.items()})
        return arrays, values

    def restore(self, snapshot: Snapshot) -> None:
        """Go on after a round, with the sums of the nodes' own networks."""
        super().restore(snapshot)
        own: dict[str, dict[str, NDArray[np.float64]]] = {}
        for key, value in snapshot.arrays.items():
            if key.startswith(f"{_OWN_SUMS}/"):
                _, site, name = key.split("/", 2)
                own.setdefault(site, {})[name.removeprefix(_OWN)] = value.astype(np.float64)
        self.own_sums = {site: own[site] for site in sorted(own)}

    def _collect(
        self, grid: Grid, number: int, weights: Weights, traffic: Traffic
    ) -> tuple[dict[str, dict[str, Sums]], dict[str, NodeOutcome]]:
        """Return each site's moments, by what they were measured with; and who is left out."""
        parts: dict[str, dict[str, Sums]] = {}
        left_out: dict[str, NodeOutcome] = {}
        if "consistent" in self.method.readings:
            content, blank = self.instruction(number, weights), self.method.blank_moments()
            parts["consistent"], outcomes = self.ask(grid, MOMENTS, content, blank, traffic, self._judge_moments)
            left_out = _without_contributors(outcomes)
            for site, reason in contradicted(parts["consistent"]).items():
                del parts["consistent"][site]
                left_out[site] = NodeOutcome("refused", reason)
        if self.method.uses_own_networks:
            parts["own"], missing = self._own_moments(grid, number)
            left_out |= missing
        return parts, left_out

    def _left_out(self, built: Built, parts: Mapping[str, Mapping[str, Sums]]) -> Callable[[str], RecordDict] | None:
        """Return what gives a site's heads without its moments; None if they are not defined.

        They are used with the averaged network, so the reading `local` has none, and nodes of an ordinary Flower app
        are not asked for them.
        """
        method = self.method
        source = MEASURED_WITH[method.shipped_reading]
        known = {site: sums for site, sums in parts.get(source, {}).items() if sums["count"].any()}
        is_asked = isinstance(self.wire, PackedWire) and method.shipped_reading != "local" and not method.is_alone
        if not is_asked or len(known) < FEWEST_SITES:
            return None
        settings = (method.shrinkage, method.prior, method.further_heads)
        return lambda site: left_out_record(to_arrays(heads_without(built.pooled[source], known.get(site), *settings)))

    def _own_moments(self, grid: Grid, number: int) -> tuple[dict[str, Sums], dict[str, NodeOutcome]]:
        """Return what the replies of a round told of the nodes' own networks, by site, and whose is missing."""
        parts: dict[str, Sums] = {}
        missing: dict[str, NodeOutcome] = {}
        for site in sorted({*self.who.here(grid), *self.who.missing(grid), *self.own_sums}):
            moments = self.own_sums.get(site)
            if moments is None:
                known = self.record.nodes.get(site) if self.record.round_number == number else None
                silent = NodeOutcome("late", f"it sent no sums of its own network in round {number}")
                missing[site] = known if known and known.outcome in ("failed", "refused", "late", "absent") else silent
                continue
            try:
                self._judge_moments(site, moments)
            except RejectedReply as error:
                missing[site] = NodeOutcome("refused", str(error))
            else:
                parts[site] = moments
        for site, reason in out_of_scale(parts).items():
            del parts[site]
            missing[site] = NodeOutcome("refused", reason)
        return parts, missing

    def _judge_moments(self, site: str, moments: Sums) -> None:
        """Raise RejectedReply for moments that cannot be, or of more images than the site trained on.

        A site that was never drawn for training may have as many as the largest one that was.
        """
        described = self.who.described(site)
        if described is None:
            check_site_moments(moments, None, None)
            return
        known = self.admission.trained_on.get(site, max(self.admission.trained_on.values(), default=None))
        limits = [limit for limit in (known, self.admission.options.max_weight) if limit]
        check_site_moments(moments, described.train_counts, min(limits, default=None))


class PrototypeFedAvg(PrototypeRounds, FedAvg):
    """Federated averaging of a classifier, with prototypes in the last round (Qiao et al. 2023, arXiv:2303.12296).

    The rounds are those of FedAvg (McMahan et al. 2017). What the paper adds, nearest class means in place of the
    averaged last layer, is one of the heads that are built and measured: see `PrototypeRounds`. For another of Flower's
    strategies: `class PrototypeFedProx(PrototypeRounds, FedProx)`.
    """


def _without_contributors(outcomes: Mapping[str, NodeOutcome]) -> dict[str, NodeOutcome]:
    return {site: node for site, node in outcomes.items() if node.outcome != "contributed"}
