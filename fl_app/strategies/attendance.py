"""Which sites are connected, and the wait for enough of them: all that were asked for at first, later a quorum."""

import time
from collections.abc import Callable, Sequence

from flwr.serverapp import Grid

from fl_app.config import FederationOptions
from fl_app.errors import FederationError
from fl_app.strategies.ledger import Observer
from fl_app.strategies.roster import Roster

_POLL_SECONDS = 1.0


class Attendance:
    """Waits for the sites of a run.

    Attributes:
        roster: the sites that are known, connected or not.
        options: how many sites, and how long to wait for them.
        observer: is told, while a wait lasts, who is missing.
    """

    def __init__(self, roster: Roster, options: FederationOptions, observer: Observer) -> None:
        self.roster = roster
        self.options = options
        self.observer = observer

    def begin(self, grid: Grid) -> None:
        """Wait for as many nodes as the coordinator asked for, which must all be fit to take part.

        Raises:
            FederationError: too few came in time, or too few of them are fit.
        """
        needed = self.options.nodes_at_start
        wait_for_nodes(
            grid,
            self.options,
            needed,
            lambda connected: self.observer.waiting(connected, needed, ()),
            self._who_is_here,
        )
        self.roster.update(grid)
        fit, unfit = list(self.roster.names()), {str(outcome.reason) for outcome in self.roster.unfit.values()}
        why = "; ".join(sorted(unfit))
        if not fit:
            raise FederationError(f"The run cannot begin: no node could be asked{': ' if why else ''}{why}.")
        if len(fit) < needed:
            raise FederationError(
                f"{len(fit)} of {needed} nodes can take part: {', '.join(fit)}. The others: {why}. Mend them, or "
                "lower 'federation.min-nodes', and resume."
            )

    def wait(self, grid: Grid) -> None:
        """Wait for a quorum of sites that are fit to take part, whichever they are; get to know new ones.

        Raises:
            FederationError: too few are there in time.
        """
        needed, started = self.options.quorum, time.monotonic()
        asked: set[int] = set()
        while True:
            connected = set(grid.get_node_ids())
            if connected - asked or not asked:
                self.roster.update(grid)
                asked |= connected
            here = self.here(grid)
            if len(here) >= needed:
                return
            missing = self.missing(grid)
            self.observer.waiting(len(here), needed, missing)
            if time.monotonic() - started > self.options.wait_seconds:
                unfit = "".join(f"; {name} {node.outcome}: {node.reason}" for name, node in self.roster.unfit.items())
                raise FederationError(
                    f"{len(here)} of {needed} sites connected within {self.options.wait_seconds:g} s"
                    f"{_listed(': ', list(here))}{_listed('; missing: ', missing)}{unfit}. Start the missing nodes, or "
                    "lower 'federation.min-replies'."
                )
            time.sleep(_POLL_SECONDS)

    def here(self, grid: Grid) -> dict[str, int]:
        """Return the known sites that are connected: node ids by site."""
        connected = set(grid.get_node_ids())
        return {site: node for site, node in self.roster.names().items() if node in connected}

    def missing(self, grid: Grid) -> list[str]:
        """Return the sites that took part in the run before and are not connected."""
        here = self.here(grid)
        return [site for site in self.roster.all_names() if site not in here]

    def _who_is_here(self, grid: Grid) -> str:
        """Name the sites that are connected, which are asked for their names first: so it is plain who is missing."""
        self.roster.update(grid)
        return _listed(": ", list(self.here(grid)))


def wait_for_nodes(
    grid: Grid,
    options: FederationOptions,
    needed: int,
    waiting: Callable[[int], None],
    who_is_here: Callable[[Grid], str] = lambda grid: "",
) -> None:
    """Wait until enough nodes are connected, whoever they are.

    Args:
        grid: Flower's connection to the nodes.
        options: how long.
        needed: how many.
        waiting: is told, while it lasts, how many are connected.
        who_is_here: is asked, in the end, for words on who is connected.

    Raises:
        FederationError: it takes too long.
    """
    started = time.monotonic()
    while (connected := len(list(grid.get_node_ids()))) < needed:
        waiting(connected)
        if time.monotonic() - started > options.wait_seconds:
            raise FederationError(
                f"{connected} of {needed} nodes connected within {options.wait_seconds:g} s{who_is_here(grid)}. Start "
                "the missing nodes, or lower 'federation.min-nodes'."
            )
        time.sleep(_POLL_SECONDS)


def _listed(before: str, names: Sequence[str]) -> str:
    return f"{before}{', '.join(names)}" if names else ""
