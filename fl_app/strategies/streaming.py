"""Replies are judged, folded into an exact running mean as they arrive, and dropped."""

import logging
import statistics
from collections.abc import Callable, Iterable
from typing import Any

from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import FedAvg, FedMedian, FedTrimmedAvg, Krum

from fl_app.incoming import MalformedReply
from fl_app.metrics.additive import Statistics
from fl_app.records import (
    Reply,
    SiteDescription,
    Weights,
    array_record,
    mean_reply,
    read_reply,
    to_weights,
)
from fl_app.strategies.admission import Admission, Refusal
from fl_app.strategies.exact_mean import ExactMean
from fl_app.strategies.ledger import NodeOutcome, RoundRecord, failure
from fl_app.strategies.sums_admission import FaultOf, check_measured, no_fault
from fl_app.strategies.waiting import WaitingReplies

log = logging.getLogger(__name__)

KEEPS_ALL = (FedMedian, FedTrimmedAvg, Krum)


def prefixed(sums: Statistics, names: Iterable[str]) -> Statistics:
    """Return the same sums once for each set of weights, as nodes name them."""
    return {f"{name}/{key}": value for name in names for key, value in sums.items()}


class Streaming(FedAvg):
    """Left of one of Flower's strategies: hands it one reply that already is the weighted mean.

    The strategies in KEEPS_ALL compare replies with one another; they get all fit ones, in the order of the sites.

    Attributes:
        record: the round that is going on.
        current: the weights that were sent in this round.
        sites: names of the asked nodes, by node id.
        node_ema: the mean of the nodes' own EMAs, where they send them.
        run_folder: where replies wait in the first round; empty: the system's folder for temporary files.
        fault_of: says what is wrong with statistics of held-out images; see `tasks.base.Task.fault_of`.
    """

    def __init__(
        self,
        *,
        admission: Admission,
        min_replies: int,
        blank_sums: Statistics,
        run_folder: str,
        fault_of: FaultOf = no_fault,
        **flower: Any,
    ) -> None:
        super().__init__(**flower)
        self.admission = admission
        self.min_replies = min_replies
        self.blank_sums = blank_sums
        self.run_folder = run_folder
        self.fault_of = fault_of
        self.record = RoundRecord(task="", round_number=0)
        self.current: Weights = {}
        self.node_ema: Weights | None = None
        self.sites: dict[int, str] = {}

    @property
    def keeps_all(self) -> bool:
        """Whether the strategy needs every reply at once."""
        return isinstance(self, KEEPS_ALL)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Fold replies as they come; below the quorum return (None, None) and write down why.

        As long as no earlier round says how long an update is, replies wait on disk until all are there. The sums are
        exact, so that it makes no difference to them when a reply is folded in.

        Args:
            server_round: from 1.
            replies: may be a generator; each reply is dropped before the next one is asked for.
        """
        mean = ExactMean(self.current)
        ema_mean = ExactMean(self.current) if self.node_ema is not None else None
        kept: list[tuple[str, Weights, float]] = []

        def fold(reply: Reply, norm: float) -> None:
            self.admission.remember(reply, norm)
            self.record.keep(reply.site, reply.statistics, reply.loss_sum, reply.num_losses)
            if self.keeps_all:
                in_order = {key: reply.weights[key] for key in self.current}
                kept.append((reply.site, in_order, reply.weight))
            else:
                mean.add(reply.weights, reply.weight)
            if ema_mean is not None and reply.node_ema is not None:
                ema_mean.add(reply.node_ema, reply.weight)

        waiting = WaitingReplies(self.run_folder) if self.admission.must_wait else None
        try:
            for message in replies:
                admitted = self._admit(message, mean)
                if admitted is None:
                    continue
                if waiting is not None:
                    waiting.put(*admitted)
                else:
                    fold(*admitted)
                del admitted
            if waiting is not None:
                self._fold_waiting(waiting, fold)
        finally:
            if waiting is not None:
                waiting.close()
        contributed = self.record.count("contributed")
        if contributed < self.min_replies:
            self.admission.forget_round()  # few sites are no measure for the others
            self.record.reason = (
                f"{contributed} of {len(self.record.asked)} nodes contributed, "
                f"'federation.min-replies' asks for {self.min_replies}"
            )
            return None, None
        self.admission.end_round()
        losses = self.record.losses()
        if self.keeps_all:
            fit = [mean_reply(weights, weight, losses) for _, weights, weight in sorted(kept, key=lambda one: one[0])]
        else:
            fit = [mean_reply(mean.result(), mean.total_weight, losses)]
        if ema_mean is not None and ema_mean.total_weight > 0:
            self.node_ema = ema_mean.result()
        arrays, metrics = super().aggregate_train(server_round, fit)
        return self._in_own_dtypes(arrays), metrics

    def expected_sums(self) -> Statistics:
        """Return sums of 0 with the names and shapes that a reply's statistics must have."""
        return prefixed(self.blank_sums, self.measured_names())

    def measured_names(self) -> list[str]:
        """Return the names of the sets of weights that nodes measure in this round."""
        return ["raw", *(["node-ema"] if self.node_ema is not None else [])]

    def described(self, site: str) -> SiteDescription | None:
        """Return what a site said of its images; None if it is unknown."""
        return None

    def _admit(self, message: Message, mean: ExactMean) -> tuple[Reply, float] | None:
        """Judge one reply and write down what became of it.

        Returns:
            The reply and the length of its update; None if it carries no weight.
        """
        site = self.sites[message.metadata.src_node_id]
        if site in self.record.nodes:
            log.warning("Site %s answered twice: the second answer is dropped", site)
            return None
        if message.has_error():
            self._note(site, failure(message.error))
            return None
        try:
            reply, norm = self._judge(message, site, mean)
        except (MalformedReply, Refusal) as error:
            self._note(site, NodeOutcome("refused", str(error)))
            return None
        except Exception as error:  # a fault of ours, but no reason to end the run of all others
            log.exception("The reply of site %s could not be judged", site)
            self._note(site, NodeOutcome("refused", f"it could not be judged ({type(error).__name__})"))
            return None
        if reply.weight == 0:
            self.record.keep(site, reply.statistics, reply.loss_sum, reply.num_losses)
            self._note(site, NodeOutcome("empty", "it holds no training image", seconds=reply.seconds))
            return None
        self._note(site, NodeOutcome("contributed", None, reply.weight, reply.seconds, reply.num_pieces))
        return reply, norm

    def _judge(self, message: Message, site: str, mean: ExactMean) -> tuple[Reply, float]:
        """Return a fit reply and the length of its update; raises MalformedReply or Refusal."""
        record, expected, described = self.record, self.expected_sums(), self.described(site)
        reply = read_reply(message, self.current, expected)
        num_images = sum(described.train_counts) if described is not None else None
        norm = self.admission.check(reply, record.task, record.round_number, site, self.current, expected, num_images)
        if (reply.node_ema is None) != (self.node_ema is None):
            raise Refusal("it sent no EMA of its own, or one that was not asked for")
        if not mean.fits(reply.weights, reply.weight) or not mean.fits(reply.node_ema or {}, reply.weight):
            raise Refusal("its weights are too large, or its weight too small, to be averaged exactly")
        held_out = described.validation_counts if described is not None else None
        check_measured(reply.statistics, self.measured_names(), held_out, self.fault_of)
        return reply, norm

    def _fold_waiting(self, waiting: WaitingReplies, fold: Callable[[Reply, float], None]) -> None:
        """Fold the replies that waited, all but those whose update is too long for this round."""
        norms = waiting.norms()
        typical = statistics.median(norms) if norms else 0.0
        for reply, norm in waiting.take():
            try:
                self.admission.judge_norm(norm, typical, "this round")
            except Refusal as error:
                self._note(reply.site, NodeOutcome("refused", str(error)))
            else:
                fold(reply, norm)

    def _note(self, site: str, outcome: NodeOutcome) -> None:
        self.record.note(site, outcome)

    def _in_own_dtypes(self, arrays: ArrayRecord | None) -> ArrayRecord | None:
        """Cast what a strategy computed back to the dtypes of the model: some promote float32 to float64."""
        if arrays is None:
            return None
        found = to_weights(arrays)
        if all(found[key].dtype == value.dtype for key, value in self.current.items()):
            return arrays
        return array_record({key: found[key].astype(value.dtype) for key, value in self.current.items()})
