"""Asks sites for additive sums outside training, and checks each answer."""

import logging
from collections.abc import Callable, Collection
from typing import Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fl_app.errors import RejectedReply
from fl_app.messages.arrays import Weights, array_record
from fl_app.messages.records import EVALUATE, add_models
from fl_app.strategies.admission import check_measured, check_sums
from fl_app.strategies.node_outcome import ARRIVED, NodeOutcome
from fl_app.strategies.outcomes import Traffic, absent, failure, shorten
from fl_app.strategies.setup import Everyone, Setup, Sites
from fl_app.strategies.streaming import Streaming, prefixed
from fl_app.strategies.transport import send_and_receive
from fl_app.sums import Sums

log = logging.getLogger(__name__)

Judge = Callable[[str, Sums], None]


class Asking(Streaming):
    """Mixin below `Resilient`: asks the sites that take part.

    Attributes:
        who: the sites that take part.
        deadline_seconds: how long nodes may take to answer.
    """

    def __init__(self, *, setup: Setup | None = None, **flower: Any) -> None:
        super().__init__(setup=setup, **flower)
        self.who: Sites = self.setup.sites or Everyone(self.min_available_nodes)
        self.deadline_seconds = 3600.0

    def measure(self, grid: Grid, models: dict[str, Weights]) -> tuple[dict[str, Sums], dict[str, NodeOutcome]]:
        """Let all connected sites measure models on their held-out images.

        Args:
            grid: Flower's connection to the nodes.
            models: `raw`, and `ema`, `node-ema` and `initial` if there are any.

        Returns:
            The sums of each site, prefixed with the models' names, and the outcome of each site.
        """
        content = self.instruction(0, models["raw"])
        add_models(content, models.get("ema"), models.get("node-ema"), models.get("initial"))

        def judge(site: str, sums: Sums) -> None:
            described = self.who.described(site)
            held_out = described.validation_counts if described else None
            check_measured(sums, list(models), held_out, self.setup.fault_of)

        return self.ask(grid, EVALUATE, content, prefixed(self.setup.blank_sums, models), judge=judge)

    def instruction(self, round_number: int, weights: Weights) -> RecordDict:
        """Return an instruction that holds weights."""
        config = self.wire.config(round_number)
        return RecordDict({self.arrayrecord_key: array_record(weights), self.configrecord_key: config})

    def ask(
        self,
        grid: Grid,
        message_type: str,
        content: RecordDict,
        expected: Sums,
        traffic: Traffic | None = None,
        judge: Judge = lambda site, sums: None,
        own: Callable[[str], RecordDict] | None = None,
        only: Collection[str] | None = None,
    ) -> tuple[dict[str, Sums], dict[str, NodeOutcome]]:
        """Ask all connected sites for sums.

        Args:
            grid: Flower's connection to the nodes.
            message_type: selects the node's function.
            content: the message, the same for all sites.
            expected: names and shapes that an answer must have.
            traffic: counter to which the bytes are added.
            judge: raises RejectedReply if an answer is impossible for a reason beyond names and shapes.
            own: returns the records that a site's message holds beside those of all; None: no such records.
            only: names of the sites to ask; None: all, and those that are missing have an outcome, too.

        Returns:
            The admitted sums by site, in the order of the sites' names, and the outcome of each site.
        """
        here = {site: node for site, node in self.who.here(grid).items() if only is None or site in only}
        sites = {node: site for site, node in here.items()}
        shared = self.wire.pack(content)  # what all have in common is packed once, and in memory once
        contents = {
            node: RecordDict({**shared, **self.wire.pack(own(site))}) if own else shared for node, site in sites.items()
        }
        messages = [Message(found, dst_node_id=node, message_type=message_type) for node, found in contents.items()]
        silent = NodeOutcome("late", f"it did not answer {message_type!r}")
        missing = self.who.missing(grid) if only is None else []
        outcomes = {**absent(missing), **dict.fromkeys(here, silent)}
        parts: dict[str, Sums] = {}
        observer = self.setup.observer
        observer.measuring(0, len(here))
        own_traffic = Traffic()
        replies = send_and_receive(grid, messages, self.deadline_seconds, own_traffic, lambda packed: packed)
        for number, reply in enumerate(replies, start=1):
            observer.measuring(number, len(here))
            site = sites[reply.metadata.src_node_id]
            if reply.has_error():
                outcomes[site] = failure(reply.error)
                continue
            try:
                sums = self.wire.read_sums(reply.content, expected)
                check_sums(sums, expected)
                judge(site, sums)
            except RejectedReply as error:
                outcomes[site] = NodeOutcome("refused", shorten(str(error)))
                continue
            except Exception as error:  # a bug here must not end the run for all sites
                log.exception("The answer of site %s could not be judged", site)
                outcomes[site] = NodeOutcome("refused", f"it could not be judged ({type(error).__name__})")
                continue
            parts[site], outcomes[site] = sums, NodeOutcome("contributed")
        arrived = [site for site in sorted(outcomes) if outcomes[site].outcome in ARRIVED]
        observer.answered(message_type, arrived, own_traffic)
        if traffic is not None:
            traffic.add(own_traffic)
        log.info("%d of %d sites sent valid sums for %r", len(parts), len(outcomes), message_type)
        return dict(sorted(parts.items())), outcomes
