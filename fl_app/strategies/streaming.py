"""Replies are judged, folded into an exact running mean as they arrive, and dropped."""

from collections.abc import Iterable
from typing import Any

from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import FedAvg, FedMedian, FedTrimmedAvg, Krum

from fl_app.metrics.additive import Statistics
from fl_app.records import MalformedReply, Reply, Weights, array_record, mean_reply, read_reply, to_weights
from fl_app.strategies.admission import Admission, Refusal
from fl_app.strategies.exact_mean import ExactMean
from fl_app.strategies.ledger import NodeOutcome, RoundRecord, failure

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
    """

    def __init__(self, *, admission: Admission, min_replies: int, blank_sums: Statistics, **flower: Any) -> None:
        super().__init__(**flower)
        self.admission = admission
        self.min_replies = min_replies
        self.blank_sums = blank_sums
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

        Args:
            server_round: from 1.
            replies: may be a generator; each reply is dropped before the next one is asked for.
        """
        mean = ExactMean(self.current)
        ema_mean = ExactMean(self.current) if self.node_ema is not None else None
        kept: list[tuple[str, Weights, float]] = []
        for message in replies:
            reply = self._admit(message, mean)
            if reply is None:
                continue
            if self.keeps_all:
                in_order = {key: reply.weights[key] for key in self.current}
                kept.append((reply.site, in_order, reply.weight))
            else:
                mean.add(reply.weights, reply.weight)
            if ema_mean is not None and reply.node_ema is not None:
                ema_mean.add(reply.node_ema, reply.weight)
            del reply
        self.admission.end_round()
        contributed = self.record.count("contributed")
        if contributed < self.min_replies:
            self.record.reason = (
                f"{contributed} of {len(self.record.asked)} nodes contributed, "
                f"'federation.min-replies' asks for {self.min_replies}"
            )
            return None, None
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
        names = ["raw", *(["node-ema"] if self.node_ema is not None else [])]
        return prefixed(self.blank_sums, names)

    def _admit(self, message: Message, mean: ExactMean) -> Reply | None:
        """Judge one reply and write down what became of it; return it where it carries weight."""
        site = self.sites[message.metadata.src_node_id]
        if message.has_error():
            self._note(site, failure(message.error))
            return None
        try:
            reply = read_reply(message)
            record = self.record
            self.admission.check(reply, record.task, record.round_number, site, self.current, self.expected_sums())
            if (reply.node_ema is None) != (self.node_ema is None):
                raise Refusal("it sent no EMA of its own, or one that was not asked for")
            if not mean.fits(reply.weights, reply.weight) or not mean.fits(reply.node_ema or {}, reply.weight):
                raise Refusal("its weights are too large, or its weight too small, to be averaged exactly")
        except (MalformedReply, Refusal) as error:
            self._note(site, NodeOutcome("refused", str(error)))
            return None
        self.record.keep(site, reply.statistics, reply.loss_sum, reply.num_losses)
        if reply.weight == 0:
            self._note(site, NodeOutcome("empty", "it holds no training image", seconds=reply.seconds))
            return None
        self.admission.remember(reply, self.current)
        self._note(site, NodeOutcome("contributed", None, reply.weight, reply.seconds, reply.num_pieces))
        return reply

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
