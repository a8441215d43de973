"""Federated averaging of a diffusion model's weights, and of averages of them (Tun et al. 2023, arXiv:2311.16538)."""

from collections.abc import Container, Mapping
from typing import Any

import numpy as np
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from fl_app.diffusion.averages import ServerEma
from fl_app.errors import OptionError, RejectedReply
from fl_app.messages.arrays import Weights
from fl_app.messages.records import MEMBERSHIP, Reply
from fl_app.metrics.copies import copies_fault
from fl_app.metrics.membership import PARTS, blank_histograms, histogram_fault
from fl_app.metrics.nearest import blank_copies
from fl_app.quality.measuring import moments_of
from fl_app.strategies.admission import update_norm
from fl_app.strategies.folding import ExactMean
from fl_app.strategies.node_outcome import NodeOutcome
from fl_app.strategies.outcomes import Snapshot
from fl_app.strategies.quality import Question, ask_quality
from fl_app.strategies.resilient import Resilient
from fl_app.strategies.setup import Setup
from fl_app.sums import Sums, add

_REAL = "real/"


def real_moments(arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.float64]]:
    """Return the moments of real images among a strategy's arrays: `count`, `sum`, `outer`; empty: there are none."""
    return {key.removeprefix(_REAL): value.astype(np.float64) for key, value in arrays.items() if key.startswith(_REAL)}


class DiffusionRounds(Resilient):
    """Mixin placed before a Flower strategy in the MRO: rounds that train a diffusion model.

    Beside the averaged weights, the server may keep their exponential moving average over the rounds, and the average
    of the nodes' own moving averages over their training steps. Diffusion models are commonly drawn from such an
    average (Ho et al. 2020); which one is better is measured on held-out images at the end.

    Attributes:
        ema: the server's moving average; None if none is kept.
        node_ema: the mean of the nodes' moving averages; None if none is kept.
        real: moments of the sites' test images, added over the sites, for the curve; None: not asked for yet; empty: no
            site has sent any.
    """

    def __init__(
        self,
        *,
        setup: Setup | None = None,
        ema_horizon: float = 0.0,
        ema_rounds: Container[int] = (),
        with_node_ema: bool = False,
        curve: Question | None = None,
        **flower: Any,
    ) -> None:
        """Take Flower's own arguments, and these.

        Args:
            setup: what the run says; None: an ordinary Flower app.
            ema_horizon: rounds that the server's moving average reaches back; 0: none is kept.
            ema_rounds: rounds in which nodes measure it; each doubles what is sent to the nodes.
            with_node_ema: nodes keep a moving average over their steps, and send it.
            curve: what the sites are asked about their real images after round 1, once; None: nothing.
            flower: of the strategy behind this one.

        Raises:
            OptionError: a mean over all nodes is asked for beside a strategy that compares replies.
        """
        if with_node_ema and self.keeps_all:
            raise OptionError(
                f"Option 'diffusion.node-ema' averages all nodes, so it cannot be used with {type(self).__name__}. "
                "Turn it off."
            )
        super().__init__(setup=setup, **flower)
        self.ema_horizon = ema_horizon
        self.ema_rounds = ema_rounds
        self.with_node_ema = with_node_ema
        self.ema: ServerEma | None = None
        self.node_ema: Weights | None = None
        self.curve = curve
        self.real: Sums | None = None
        self._node_mean: ExactMean | None = None
        self._gap = 0.0  # of the weights and the nodes' mean average, as they are sent

    def begin(self, weights: Weights) -> None:
        """Start all averages from the initial weights."""
        self._start_averages(weights, weights)

    def restore(self, snapshot: Snapshot) -> None:
        """Go on after a round, with its averages."""
        super().restore(snapshot)
        raw = snapshot.models["raw"]
        self._start_averages(snapshot.models.get("ema", raw), snapshot.models.get("node-ema", raw))
        if self.ema:
            self.ema.num_updates = int(snapshot.values["ema-updates"])
        if snapshot.values.get("asked-real"):
            self.real = real_moments(snapshot.arrays)

    def state(self) -> tuple[dict[str, NDArray[np.generic]], dict[str, object]]:
        """Return the state, with the age of the server's moving average."""
        arrays, values = super().state()
        arrays |= {f"{_REAL}{key}": np.asarray(value) for key, value in (self.real or {}).items()}
        ema_updates = self.ema.num_updates if self.ema else 0
        return arrays, values | {"ema-updates": ema_updates, "asked-real": self.real is not None}

    def before_round(self, grid: Grid, number: int, weights: Weights) -> None:
        """After round 1, ask the sites for moments of their real images, if there is a curve."""
        if self.curve is not None and self.real is None and number > 1:
            self.ask_real(grid)

    def ask_real(self, grid: Grid) -> None:
        """Ask the sites for moments of their real images."""
        assert self.curve is not None
        parts, _ = ask_quality(self, grid, self.curve)
        total = moments_of(add(parts.values()), "moments") if parts else {}
        self.real = total if parts and total["count"].any() else {}

    def extra_models(self, number: int) -> dict[str, Weights]:
        """Return the averages that nodes measure or go on with in a round."""
        models = {"ema": self.ema.weights} if self.ema and number in self.ema_rounds else {}
        return models | ({"node-ema": self.node_ema} if self.node_ema is not None else {})

    def models(self, raw: Weights) -> dict[str, Weights]:
        """Return the weights and their averages."""
        models = {"raw": raw}
        if self.ema_horizon > 0:
            models["ema"] = dict(self.ema.weights) if self.ema else raw
        if self.with_node_ema:
            models["node-ema"] = raw if self.node_ema is None else self.node_ema
        return models

    def measured_names(self) -> list[str]:
        """Return the names of what nodes measure in this round: the averages that travel, too."""
        return ["raw", *sorted(self.extra_models(self.record.round_number), reverse=True)]

    def after_training(self, number: int, after: Weights | None) -> None:
        """Fold the weights of a round that counts into the server's moving average."""
        if self.ema and after is not None:
            self.ema.update(after)

    def begin_averages(self) -> None:
        """Start the mean of the nodes' moving averages."""
        self._node_mean = ExactMean(self.current) if self.node_ema is not None else None
        self._gap = update_norm(self.current, self.node_ema) if self.node_ema is not None else 0.0

    def check_reply(self, reply: Reply, mean: ExactMean) -> None:
        """Raise RejectedReply for a reply without the moving average that was asked for, or with one that was not."""
        if (reply.node_ema is None) != (self.node_ema is None):
            raise RejectedReply("it sent no EMA of its own, or one that was not asked for")
        if not mean.fits(reply.node_ema or {}, reply.weight):
            raise RejectedReply("its EMA is too large, or its weight too small, to be averaged exactly")
        if reply.node_ema is not None and self.node_ema is not None:
            self.admission.judge_average(reply.site, update_norm(reply.node_ema, self.node_ema), self._gap)

    def add_to_averages(self, reply: Reply) -> None:
        """Fold a node's moving average into the mean."""
        if self._node_mean is not None and reply.node_ema is not None:
            self._node_mean.add(reply.node_ema, reply.weight)

    def end_averages(self) -> None:
        """Take the mean of a round that counts."""
        if self._node_mean is not None and self._node_mean.total_weight > 0:
            self.node_ema = self._node_mean.result()

    def ask_membership(
        self, grid: Grid, number: int, weights: Weights, most: int, drawn: int = 0
    ) -> tuple[dict[str, Sums], dict[str, NodeOutcome]]:
        """Let all connected sites count their images by how well weights know them, and copies among drawn images.

        Args:
            grid: Flower's connection to the nodes.
            number: of the last round.
            weights: that are to be exported.
            most: images of a part that a node scores.
            drawn: images that a node draws to look for copies; 0: none.

        Returns:
            The counts of each site, see `metrics.membership` and `metrics.copies`, and the outcome of each site.
        """
        blank = (blank_histograms(), blank_copies() if drawn else {})

        def judge(site: str, sums: Sums) -> None:
            known = self.who.described(site)
            counts = (known.train_counts, known.validation_counts, known.test_counts) if known else None
            described = dict(zip(PARTS, map(sum, counts), strict=True)) if counts else None
            scored, compared = ({key: sums[key] for key in one} for one in blank)
            fault = histogram_fault(scored, described, most)
            fault = fault or (copies_fault(compared, described, drawn) if drawn else None)
            if fault:
                raise RejectedReply(fault)

        expected = blank[0] | blank[1]
        parts, outcomes = self.ask(grid, MEMBERSHIP, self.instruction(number, weights), expected, judge=judge)
        trained = self.admission.trained_on  # the model cannot know the images of any other site
        return {site: part for site, part in parts.items() if site in trained or not trained}, outcomes

    def _start_averages(self, ema: Weights, node_ema: Weights) -> None:
        self.ema = ServerEma(ema, self.ema_horizon) if self.ema_horizon > 0 else None
        self.node_ema = node_ema if self.with_node_ema else None


class DiffusionFedAvg(DiffusionRounds, FedAvg):
    """Federated averaging of a diffusion model (Tun et al. 2023, arXiv:2311.16538).

    Each round the server sends the weights to the nodes, each node trains them on its own images with the denoising
    loss, and the server averages what comes back, weighted by the number of images (McMahan et al. 2017). For another
    of Flower's strategies: `class DiffusionFedProx(DiffusionRounds, FedProx)`.
    """
