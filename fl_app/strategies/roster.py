"""Maps nodes to sites, and keeps each site's description of its images."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from flwr.serverapp import Grid

from fl_app.data.images import DatasetInfo
from fl_app.errors import FederationError, RejectedReply
from fl_app.logs import clean_text
from fl_app.messages.descriptions import SiteDescription, read_description
from fl_app.options.sections import LONGEST_NAME, is_site_name
from fl_app.strategies.agreement import (
    SharesOf,
    agreed_shares,
    ask_descriptions,
    compare,
    false_shares,
    fault_of_name,
    unknown_shares,
    warn_of_free_names,
)
from fl_app.strategies.node_outcome import NodeOutcome
from fl_app.strategies.outcomes import failure
from fl_app.strategies.shares import warn_of_giants

log = logging.getLogger(__name__)

_ROUNDS_LEFT_ALONE = 5  # asking a silent node again makes all others wait, so it is asked after this many rounds
_MOST_IMAGES = 2**31


class _Unfit(Exception):
    """A description is rejected; the text says why."""


class Roster:
    """Asks each node once for its description, and keeps it.

    Attributes:
        expected: classes, channels and image size that every site must have.
        sites: descriptions by node id.
        unfit: outcome of nodes that could not be described, or whose description is rejected, by name.
        num_test_shares: into how many shares the sites' common test set is split; 0: they measure their own parts.
    """

    def __init__(
        self,
        expected: DatasetInfo,
        deadline_seconds: float,
        frozen: Mapping[str, Mapping[str, Any]] | None = None,
        shares_of: SharesOf = unknown_shares,
        bound: Mapping[int, str] | None = None,
    ) -> None:
        """Begin without sites.

        Args:
            expected: as above.
            deadline_seconds: how long nodes may take to describe themselves.
            frozen: counts by site, from `SiteDescription.counts`, of sites described when the run began. A site whose
                counts have changed since is left out.
            shares_of: returns a share's test images of each class, given its number and the number of shares; None if
                no common test set is known.
            bound: names by node id, from 'federation.sites'; empty: names are unverified, and the log says so; None:
                names need no binding.
        """
        self.expected = expected
        self.deadline_seconds = deadline_seconds
        self.frozen = dict(frozen or {})
        self.sites: dict[int, SiteDescription] = {}
        self.unfit: dict[str, NodeOutcome] = {}
        self.num_test_shares = 0
        self._shares_of = shares_of
        self._bound = bound
        self._skip: dict[int, int] = {}

    def update(self, grid: Grid, limit_seconds: float | None = None) -> None:
        """Ask the connected nodes that are not known yet; `unfit` then holds those that cannot take part, with reasons.

        Args:
            grid: Flower's connection to the nodes.
            limit_seconds: how long to wait for descriptions, if less than the roster's own time.

        Raises:
            FederationError: a run is resumed, and most of its sites have other images now. It is then a simulation with
                another number of nodes, which would train on images that were held out.
        """
        self.unfit = {}
        began = set() if self.sites else set(self.frozen)
        self._skip = {node: rounds - 1 for node, rounds in self._skip.items() if rounds > 1}
        connected = set(grid.get_node_ids())
        new = sorted(node for node in connected if node not in self.sites and node not in self._skip)
        if not new:
            return
        silent = set(new)
        described: dict[int, SiteDescription] = {}
        for reply in ask_descriptions(grid, new, min(limit_seconds or math.inf, self.deadline_seconds)):
            node = reply.metadata.src_node_id
            silent.discard(node)
            if reply.has_error():
                self.unfit[self._name_of(node)] = failure(reply.error)
                continue
            try:
                description = read_description(reply)
                if fault := fault_of_name(node, description.site, self._bound or {}):
                    log.warning("A node is left out: %s", fault)
                    raise RejectedReply(fault)
                described[node] = description
            except RejectedReply as error:
                self.unfit[self._name_of(node)] = NodeOutcome("refused", str(error))
        for node in sorted(described):
            self._add(node, described[node], connected)
        self._judge_test_images()
        self._freeze(described)
        self._skip |= dict.fromkeys(silent, _ROUNDS_LEFT_ALONE)
        for node in sorted(silent):
            self.unfit[self._name_of(node)] = NodeOutcome("late", "it did not say who it is before the deadline")
        changed = sorted(began & {description.site for description in described.values()})
        if 2 * len(changed) > len(began) and not began & self.names().keys():
            reasons = "; ".join(sorted(str(outcome.reason) for outcome in self.unfit.values()))
            raise FederationError(f"The run cannot be resumed, {', '.join(changed)} had other images: {reasons}.")
        if described:
            warn_of_giants({site.site: site.counts() for site in self.sites.values()})
        if described and self._bound == {}:
            warn_of_free_names(self.names())

    def names(self) -> dict[str, int]:
        """Return node ids by site, in the order of the sites' names."""
        return dict(sorted((description.site, node) for node, description in self.sites.items()))

    def all_names(self) -> list[str]:
        """Return the names of all sites that have taken part in this run, sorted."""
        return sorted(self.frozen)

    def hold_out(self) -> bool:
        """Return whether most sites with images report held-out images."""
        told = [(sum(site.train_counts), sum(site.validation_counts)) for site in self.sites.values()]
        held_out = [validation > 0 for train, validation in told if train + validation > 0]
        return 2 * held_out.count(True) > len(held_out)

    def description(self, site: str) -> SiteDescription | None:
        """Return a site's description of its images; None if the site is not known."""
        return next((known for known in self.sites.values() if known.site == site), None)

    def _add(self, node: int, description: SiteDescription, connected: set[int]) -> None:
        site = description.site
        try:
            self._check(description)
            before = next((other for other, known in self.sites.items() if known.site == site), None)
            if before in connected:
                raise _Unfit(
                    f"Two nodes call themselves '{site}': the second one is left out. Each hospital needs a name "
                    'of its own: set site="…" in its --node-config'
                )
            self._check_unchanged(description)
            if before is not None:  # it was started again, and has a new id
                del self.sites[before]
        except _Unfit as error:
            self._refuse(node, site, str(error))
            return
        self.sites[node] = description

    def _refuse(self, node: int, site: str, reason: str) -> None:
        is_away = site in self.frozen and self.description(site) is None  # else the name belongs to another node
        self.unfit[site if is_away else self._name_of(node)] = NodeOutcome("refused", reason)
        log.warning("A node is left out: %s", reason)

    def _name_of(self, node: int) -> str:
        """Return the name that is bound to a node; `node-<id>` if there is none."""
        return (self._bound or {}).get(node, f"node-{node}")

    def _judge_test_images(self) -> None:
        """Leave out sites whose test images are not their share of the common set, if there is one."""
        self.num_test_shares = agreed_shares(self.sites.values())
        if self.num_test_shares == 0:
            return
        nodes = self.names()
        for site, reason in false_shares(self.sites.values(), self.num_test_shares, self._shares_of).items():
            del self.sites[nodes[site]]
            self._refuse(nodes[site], site, reason)

    def _freeze(self, described: Mapping[int, SiteDescription]) -> None:
        """Remember the counts of new sites, and log them."""
        for node in sorted(described.keys() & self.sites.keys()):
            description = self.sites[node]
            self.frozen.setdefault(description.site, description.counts())
            counts = description.counts().values()
            message = "Site %s: %d training images, %d held-out images, %d test images"
            log.info(message, description.site, *(sum(part) for part in counts))
            if description.num_unreadable:
                log.warning(
                    "Site %s leaves out %d files that it cannot read", description.site, description.num_unreadable
                )
            if description.too_few:
                log.warning(
                    "Site %s has fewer images than its own minimum, and uses none, for: %s",
                    description.site,
                    ", ".join(description.too_few),
                )

    def _check(self, description: SiteDescription) -> None:
        """Raise _Unfit unless a description fits the run, with possible counts."""
        site, expected = description.site, self.expected
        if not is_site_name(site):
            raise _Unfit(
                f"A node calls itself '{clean_text(site, LONGEST_NAME)}': a site's name has at most {LONGEST_NAME} "
                "letters, digits, '_', '-' and single dots"
            )
        differences = compare(description.info, expected)
        if differences:
            raise _Unfit(f"Site '{site}' has {'; '.join(differences)}")
        counts = description.counts()
        if not all(_are_counts(part, len(expected.class_names)) for part in counts.values()):
            raise _Unfit(f"Site '{site}' sent counts of images that do not fit its {len(expected.class_names)} classes")
        if not _are_counts([description.num_unreadable, description.num_test_shares], 2):
            raise _Unfit(f"Site '{site}' sent an impossible number of unreadable files, or of shares of a test set")

    def _check_unchanged(self, description: SiteDescription) -> None:
        """Raise _Unfit if a site's counts have changed since the run began: it might train on held-out images."""
        counts = description.counts()
        began = self.frozen.get(description.site, counts)
        changes = ", ".join(
            f"{name} {sum(began[name])}, now {sum(part)}{' in other classes' if sum(part) == sum(began[name]) else ''}"
            for name, part in counts.items()
            if began[name] != part
        )
        if changes:
            raise _Unfit(
                f"Site '{description.site}' had other images when this run began ({changes}). A simulation needs the "
                "same number of nodes, a hospital the same images. Otherwise start a new run"
            )


def _are_counts(counts: Sequence[int], how_many: int) -> bool:
    return len(counts) == how_many and all(0 <= count <= _MOST_IMAGES for count in counts)
