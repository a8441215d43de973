"""Replies are judged, folded into an exact running mean as they arrive, and dropped."""

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedProx, FedYogi

from fl_app.errors import RejectedReply
from fl_app.messages.arrays import Weights, array_record, to_weights
from fl_app.messages.records import TRAIN, Reply
from fl_app.strategies.admission import check_measured
from fl_app.strategies.folding import ExactMean, WaitingReplies
from fl_app.strategies.node_outcome import NodeOutcome
from fl_app.strategies.outcomes import RoundRecord, failure
from fl_app.strategies.setup import Setup
from fl_app.strategies.shares import cap_of
from fl_app.strategies.transport import PlainWire, Wire
from fl_app.sums import Sums

log = logging.getLogger(__name__)

# Their `aggregate_train` begins with the weighted mean of all replies, and needs nothing else of them.
_NEED_THE_MEAN = (FedAvg, FedProx, FedAvgM, FedAdam, FedYogi, FedAdagrad)


def prefixed(sums: Sums, names: Iterable[str]) -> Sums:
    """Return the same sums once for each set of weights, as nodes name them."""
    return {f"{name}/{key}": value for name in names for key, value in sums.items()}


class Streaming(FedAvg):
    """Mixin placed before a Flower strategy in the MRO; passes it one reply, the weighted mean of all fit ones.

    A strategy that may compare replies with one another gets all of them, in the order of the sites: every class whose
    `aggregate_train` is not that of FedAvg, FedProx, FedAvgM, FedAdam, FedYogi or FedAdagrad. The class attribute
    `keeps_all` says otherwise.

    Attributes:
        setup: what the run says; see `Setup`.
        wire: how messages are written.
        record: the current round.
        current: the weights that were sent in this round.
        sites: names of the nodes that were asked, by node id.
    """

    keeps_all: bool

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "keeps_all" not in cls.__dict__:
            flowers = (kind for kind in cls.__mro__ if not issubclass(kind, Streaming))
            cls.keeps_all = next(kind for kind in flowers if "aggregate_train" in vars(kind)) not in _NEED_THE_MEAN

    def __init__(self, *, setup: Setup | None = None, **flower: Any) -> None:
        super().__init__(**flower)
        self.setup = setup or Setup()
        self.wire: Wire = self.setup.wire or PlainWire(self.weighted_by_key, self.arrayrecord_key)
        self.admission = self.setup.admission
        self.record = RoundRecord(task="", round_number=0)
        self.current: Weights = {}
        self.sites: dict[int, str] = {}

    def measured_names(self) -> list[str]:
        """Return the names of the sets of weights that nodes measure in this round; a hook."""
        return ["raw"]

    def expected_sums(self) -> Sums:
        """Return sums of zero images with the names and shapes that a reply's sums must have; a hook."""
        return prefixed(self.setup.blank_sums, self.measured_names())

    def begin_averages(self) -> None:
        """Prepare for what replies hold beside their weights; a hook."""

    def check_reply(self, reply: Reply, mean: ExactMean) -> None:
        """Raise RejectedReply for a reply whose further contents are not fit; a hook."""
        if reply.node_ema is not None:
            raise RejectedReply("it sent an EMA of its own that was not asked for")

    def add_to_averages(self, reply: Reply) -> None:
        """Take in what a fit reply holds beside its weights; a hook."""

    def end_averages(self) -> None:
        """Finish what `add_to_averages` began, of a round that counts; a hook."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Fold replies as they come; below the quorum return (None, None) and write down why.

        As long as no earlier round says how long an update is, and if a site's share is capped, replies wait on disk
        until all are there; so do updates that are too long compared with recent rounds. The sums are exact, so that it
        makes no difference to them when a reply is folded in.

        Args:
            server_round: from 1.
            replies: may be a generator; each reply is dropped before the next one is asked for.
        """
        mean = ExactMean(self.current)
        kept: list[Reply] = []
        metrics: dict[str, RecordDict] = {}
        self.begin_averages()

        def fold(reply: Reply, norm: float, most: float = math.inf) -> None:
            self.admission.remember(reply, norm)
            self.record.keep(reply.site, reply.sums, reply.loss_sum, reply.num_losses)
            reply = replace(reply, weight=min(reply.weight, most))
            if self.keeps_all:
                kept.append(replace(reply, weights={key: reply.weights[key] for key in self.current}))
            else:
                mean.add(reply.weights, reply.weight)
            if reply.metrics is not None:
                metrics[reply.site] = RecordDict({"metrics": reply.metrics})
            self.add_to_averages(reply)

        must_wait = self.admission.must_wait or 0 < self.admission.options.max_share < 1
        waiting = WaitingReplies(self.setup.run_folder) if must_wait else None
        doubtful: dict[str, str] = {}
        try:
            for message in replies:
                admitted = self._admit(message, mean)
                del message
                if admitted is None:
                    continue
                site, doubt = admitted[0].site, self._doubt(*admitted)
                if doubt is not None:
                    doubtful[site] = doubt
                    waiting = waiting or WaitingReplies(self.setup.run_folder)
                if waiting is not None and (must_wait or doubt is not None):
                    waiting.put(*admitted)
                else:
                    fold(*admitted)
                del admitted
            if waiting is not None:
                self._fold_waiting(waiting, doubtful, fold)
        finally:
            if waiting is not None:
                waiting.close()
        contributed = self.record.count("contributed")
        if contributed < self.setup.min_replies:
            self.admission.forget_round()  # few sites are no measure for the others
            self.record.reason = (
                f"{contributed} of {len(self.record.asked)} nodes contributed, "
                f"'federation.min-replies' asks for {self.setup.min_replies}"
            )
            return None, None
        self.admission.end_round()
        if self.keeps_all:
            in_order = sorted(kept, key=lambda reply: reply.site)
            fit = [self._as_reply(reply.weights, reply.weight, reply.metrics) for reply in in_order]
        else:
            fit = [self._as_reply(mean.result(), mean.total_weight)]
        self.end_averages()
        arrays, aggregated = super().aggregate_train(server_round, fit)
        if metrics:
            records = [metrics[site] for site in sorted(metrics)]
            aggregated = self.train_metrics_aggr_fn(records, self.weighted_by_key)
        return self._in_own_dtypes(arrays), aggregated

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
        except RejectedReply as error:
            self._note(site, NodeOutcome("refused", str(error)))
            return None
        except Exception as error:  # a fault of ours, but no reason to end the run of all others
            log.exception("The reply of site %s could not be judged", site)
            self._note(site, NodeOutcome("refused", f"it could not be judged ({type(error).__name__})"))
            return None
        if reply.weight == 0:
            self.record.keep(site, reply.sums, reply.loss_sum, reply.num_losses)
            self._note(site, NodeOutcome("empty", "it holds no training image", seconds=reply.seconds))
            return None
        self._note(site, _contribution(reply))
        return reply, norm

    def _doubt(self, reply: Reply, norm: float) -> str | None:
        """Return why an update is too long compared with recent rounds, and write it down; None if it is not."""
        try:
            self.admission.judge_length(reply.site, norm)
        except RejectedReply as error:
            self._note(reply.site, NodeOutcome("refused", str(error)))
            return str(error)
        return None

    def _judge(self, message: Message, site: str, mean: ExactMean) -> tuple[Reply, float]:
        """Return a fit reply and the length of its update; raises RejectedReply."""
        record, expected = self.record, self.expected_sums()
        described = self.setup.sites.described(site) if self.setup.sites else None
        reply = self.wire.read_reply(message, site, record, self.current, expected)
        num_images = sum(described.train_counts) if described is not None else None
        norm = self.admission.check(reply, record.task, record.round_number, site, self.current, expected, num_images)
        self.check_reply(reply, mean)
        if not mean.fits(reply.weights, reply.weight):
            raise RejectedReply("its weights are too large, or its weight too small, to be averaged exactly")
        held_out = described.validation_counts if described is not None else None
        check_measured(reply.sums, self.measured_names(), held_out, self.setup.fault_of)
        return reply, norm

    def _as_reply(self, weights: Weights, weight: float, metrics: MetricRecord | None = None) -> Message:
        """Wrap weights as if a node had sent them, the way Flower's strategies expect a reply."""
        if metrics is None:
            loss_sum, num_losses = self.record.losses()
            metrics = MetricRecord({self.weighted_by_key: weight, "loss-sum": loss_sum, "loss-count": num_losses})
        elif metrics[self.weighted_by_key] != weight:  # it is capped
            metrics = MetricRecord({**metrics, self.weighted_by_key: weight})
        content = RecordDict({self.arrayrecord_key: array_record(weights), "metrics": metrics})
        return Message(content, dst_node_id=0, message_type=TRAIN)

    def _fold_waiting(
        self, waiting: WaitingReplies, doubtful: dict[str, str], fold: Callable[[Reply, float, float], None]
    ) -> None:
        """Fold the replies that waited, none with more than its share; leave out updates that are too long.

        Args:
            waiting: the replies.
            doubtful: sites whose updates are too long compared with recent rounds, and why.
            fold: takes a reply, the length of its update and the most that it may weigh.
        """
        weights, norms = waiting.weights(), waiting.norms()
        if self.admission.must_wait:
            refused = dict(self.admission.judge_round(norms))
        else:
            refused = self.admission.judge_doubtful(doubtful, norms)
        for site, reason in refused.items():
            self._note(site, NodeOutcome("refused", reason))
            del weights[site]
        most = cap_of(list(weights.values()), self.admission.options.max_share)
        for reply, norm in waiting.take():
            if reply.site not in weights:
                continue
            if reply.site in doubtful:
                self._note(reply.site, _contribution(reply))
            fold(reply, norm, most)

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


def _contribution(reply: Reply) -> NodeOutcome:
    return NodeOutcome("contributed", None, reply.weight, reply.seconds, reply.num_pieces)
