"""Tracks which sites are connected, and waits for enough of them: `nodes_at_start` at first, later a quorum."""

import time
from collections.abc import Callable, Mapping, Sequence

from flwr.serverapp import Grid

from fl_app.errors import FederationError
from fl_app.messages.descriptions import SiteDescription
from fl_app.options.federation import FederationOptions
from fl_app.strategies.node_outcome import NodeOutcome
from fl_app.strategies.outcomes import Observer
from fl_app.strategies.roster import Roster

_POLL_SECONDS = 1.0
_ASK_AGAIN_SECONDS = 30.0  # also the longest wait for a description if enough sites are connected without it


class Attendance:
    """Waits for the sites of a run.

    Attributes:
        roster: all known sites, connected or not.
        options: how many sites, and how long to wait for them.
        observer: receives the missing sites during a wait.
    """

    def __init__(self, roster: Roster, options: FederationOptions, observer: Observer) -> None:
        self.roster = roster
        self.options = options
        self.observer = observer

    def begin(self, grid: Grid) -> None:
        """Wait until as many sites as the coordinator asked for are connected and can take part.

        Raises:
            FederationError: too few connected in time, or too few can take part.
        """
        needed = self.options.nodes_at_start
        fit = self._wait_for(grid, needed)
        if len(fit) >= needed:
            return
        num_connected = len(list(grid.get_node_ids()))
        if num_connected < needed:
            raise FederationError(
                f"{num_connected} of {needed} nodes connected within {self.options.wait_seconds:g} s"
                f"{_listed(': ', list(fit))}{self._unfit('; ')}. Start the missing nodes, or lower "
                "'federation.min-nodes'."
            )
        if not fit:
            raise FederationError(f"The run cannot begin: no node could be asked{self._unfit(': ')}.")
        raise FederationError(
            f"{len(fit)} of {needed} nodes can take part: {', '.join(fit)}. The others: {self._unfit('')}. Fix them, "
            "or lower 'federation.min-nodes'."
        )

    def wait(self, grid: Grid) -> None:
        """Wait for a quorum of sites that can take part, new ones included.

        Raises:
            FederationError: too few connected in time.
        """
        needed = self.options.quorum
        fit = self._wait_for(grid, needed)
        if len(fit) < needed:
            raise FederationError(
                f"{len(fit)} of {needed} sites connected within {self.options.wait_seconds:g} s"
                f"{_listed(': ', list(fit))}{_listed('; missing: ', self.missing(grid))}{self._unfit('; ')}. Start the "
                "missing nodes, or lower 'federation.min-replies'."
            )

    def _wait_for(self, grid: Grid, needed: int) -> dict[str, int]:
        """Wait until `needed` sites can take part or the time is over; return their node ids by site.

        New nodes are asked for their description at once; rejected ones again every half minute.
        """
        started = asked_at = time.monotonic()
        asked: set[int] | None = None
        while True:
            connected, now = set(grid.get_node_ids()), time.monotonic()
            if asked is None or connected - asked or now - asked_at > _ASK_AGAIN_SECONDS:
                has_enough = len(self.here(grid)) >= needed
                self.roster.update(grid, _ASK_AGAIN_SECONDS if has_enough else None)
                asked, asked_at = connected, time.monotonic()
            fit = self.here(grid)
            if len(fit) >= needed or now - started > self.options.wait_seconds:
                return fit
            self.observer.waiting(len(fit), needed, self.missing(grid))
            time.sleep(_POLL_SECONDS)

    def _unfit(self, before: str) -> str:
        reasons = sorted({str(outcome.reason) for outcome in self.roster.unfit.values()})
        return _listed(before, reasons, "; ")

    @property
    def unfit(self) -> Mapping[str, NodeOutcome]:
        """Nodes that could not be described, or whose description is rejected, by name."""
        return self.roster.unfit

    def described(self, site: str) -> SiteDescription | None:
        """Return a site's description of its images; None if the site is not known."""
        return self.roster.description(site)

    def held_classes(self, num_classes: int) -> list[bool]:
        """Return, for each class, whether any site of the run ever held a training image of it."""
        counts = [known["train"] for known in self.roster.frozen.values()]
        return [any(column) for column in zip(*counts, strict=True)] if counts else [False] * num_classes

    def test_parts(self) -> str:
        """Return which test images sites measure: `common` (each its share) or `own parts`."""
        return "common" if self.roster.num_test_shares else "own parts"

    def here(self, grid: Grid) -> dict[str, int]:
        """Return the known sites that are connected: node ids by site."""
        connected = set(grid.get_node_ids())
        return {site: node for site, node in self.roster.names().items() if node in connected}

    def missing(self, grid: Grid) -> list[str]:
        """Return the sites that took part in the run before and are neither connected nor rejected."""
        there = self.here(grid).keys() | self.roster.unfit.keys()
        return [site for site in self.roster.all_names() if site not in there]


class OneForAll(Attendance):
    """The pooled baseline of a simulation: the first connected site trains on the images of all."""

    def here(self, grid: Grid) -> dict[str, int]:
        """Return the first connected site only."""
        return dict(list(super().here(grid).items())[:1])

    def missing(self, grid: Grid) -> list[str]:
        """Return no site: the others are not asked."""
        return []

    def described(self, site: str) -> SiteDescription | None:
        """Return None: the site trains on more images than it described."""
        return None


def wait_for_nodes(
    grid: Grid,
    options: FederationOptions,
    needed: int,
    waiting: Callable[[int], None],
) -> None:
    """Wait until `needed` nodes are connected.

    Args:
        grid: Flower's connection to the nodes.
        options: `wait_seconds`.
        needed: number of nodes.
        waiting: called during the wait with the number of connected nodes.

    Raises:
        FederationError: too few connected in time.
    """
    started = time.monotonic()
    while (connected := len(list(grid.get_node_ids()))) < needed:
        waiting(connected)
        if time.monotonic() - started > options.wait_seconds:
            raise FederationError(
                f"{connected} of {needed} nodes connected within {options.wait_seconds:g} s. Start the "
                "missing nodes, or lower 'federation.min-nodes'."
            )
        time.sleep(_POLL_SECONDS)


def _listed(before: str, names: Sequence[str], comma: str = ", ") -> str:
    return f"{before}{comma.join(names)}" if names else ""
