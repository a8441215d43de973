"""The sites of a federation: which node is which, and what images it says it holds."""

import logging
import re
from collections.abc import Container, Iterable

from flwr.app import Message
from flwr.serverapp import Grid

from fl_app.config import SITE_NAME
from fl_app.data.images import DatasetInfo
from fl_app.errors import FederationError
from fl_app.records import MalformedReply, SiteDescription, read_description
from fl_app.strategies.agreement import ask_descriptions, compare
from fl_app.strategies.ledger import NodeOutcome, failure

log = logging.getLogger(__name__)

_ROUNDS_LEFT_ALONE = 5  # a silent node costs the others a deadline: it is asked again after that many rounds


class Roster:
    """Asks each node once who it is, and knows it from then on.

    Attributes:
        expected: classes, channels and image size that every site must have.
        before: names of sites that took part before a run was resumed, or in an earlier task of it.
        sites: descriptions by node id.
        unfit: outcome of nodes that could not be described, by the name they go by.
    """

    def __init__(self, expected: DatasetInfo, deadline_seconds: float, before: Iterable[str] = ()) -> None:
        self.expected = expected
        self.deadline_seconds = deadline_seconds
        self.before = frozenset(before)
        self.sites: dict[int, SiteDescription] = {}
        self.unfit: dict[str, NodeOutcome] = {}
        self._skip: dict[int, int] = {}

    def update(self, grid: Grid) -> None:
        """Ask the nodes that are connected and not known yet.

        Raises:
            FederationError: before any training, where two nodes call themselves alike or a site's images are not
                those of the run. A node that joins later and does not fit is left out instead.
        """
        self.unfit = {}
        first = not self.sites
        self._skip = {node: rounds - 1 for node, rounds in self._skip.items() if rounds > 1}
        connected = set(grid.get_node_ids())
        new = [node for node in sorted(connected) if node not in self.sites and node not in self._skip]
        if not new:
            return
        silent = set(new)
        for reply in ask_descriptions(grid, new, self.deadline_seconds):
            node = reply.metadata.src_node_id
            silent.discard(node)
            try:
                self._add(node, reply, connected)
            except FederationError as error:
                if first:
                    raise
                self.unfit[f"node-{node}"] = NodeOutcome("refused", str(error))
        self._skip |= dict.fromkeys(silent, _ROUNDS_LEFT_ALONE)
        for node in sorted(silent):
            self.unfit[f"node-{node}"] = NodeOutcome("late", "it did not say who it is before the deadline")

    def names(self) -> dict[str, int]:
        """Return node ids by site, in the order of the sites' names."""
        return dict(sorted((description.site, node) for node, description in self.sites.items()))

    def all_names(self) -> list[str]:
        """Return the names of all sites that took part in this run so far, in order."""
        return sorted(self.before | {description.site for description in self.sites.values()})

    def _add(self, node: int, reply: Message, connected: Container[int]) -> None:
        if reply.has_error():
            self.unfit[f"node-{node}"] = failure(reply.error)
            return
        try:
            description = read_description(reply)
        except MalformedReply as error:
            self.unfit[f"node-{node}"] = NodeOutcome("refused", str(error))
            return
        self._check(node, description, connected)
        gone = [other for other, known in self.sites.items() if known.site == description.site and other != node]
        for other in gone:  # the site is back, under an id that Flower has given anew
            del self.sites[other]
        self.sites[node] = description
        counts = (description.train_counts, description.validation_counts, description.test_counts)
        message = "Site %s: %d training images, %d held out, %d tested on"
        log.info(message, description.site, *(sum(part) for part in counts))
        if description.num_unreadable:
            log.warning("Site %s leaves out %d files that it cannot read", description.site, description.num_unreadable)

    def _check(self, node: int, description: SiteDescription, connected: Container[int]) -> None:
        site, expected, found = description.site, self.expected, description.info
        if not re.fullmatch(SITE_NAME, site):
            raise FederationError(
                f"A node calls itself {site[:50]!r}: a site's name has letters, digits, '_', '.', '-'."
            )
        for other, known in list(self.sites.items()):
            if known.site == site and other != node and other in connected:
                raise FederationError(
                    f"Two nodes call themselves '{site}'. Each hospital needs a name of its own: "
                    'set site="…" in its --node-config.'
                )
            if known.site == site and known != description:
                raise FederationError(f"Site '{site}' is back with other images than it took part with before.")
        differences = compare(found, expected)
        if differences:
            raise FederationError(f"Site '{site}' has {'; '.join(differences)}.")
        for counts in (description.train_counts, description.validation_counts, description.test_counts):
            if len(counts) != len(expected.class_names) or min(counts) < 0:
                raise FederationError(f"Site '{site}' sent counts that do not fit its classes: {counts}.")
