"""What a run tells its strategy; the defaults are those of an ordinary Flower app."""

import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from flwr.serverapp import Grid

from fl_app.errors import FederationError
from fl_app.messages.descriptions import SiteDescription
from fl_app.options.federation import AdmissionOptions
from fl_app.strategies.admission import Admission, FaultOf, no_fault
from fl_app.strategies.node_outcome import NodeOutcome
from fl_app.strategies.outcomes import Observer, RoundRecord, Snapshot, Traffic
from fl_app.strategies.transport import Wire
from fl_app.sums import Sums

if TYPE_CHECKING:  # it imports this module
    from fl_app.strategies.prototypes import Exchange
    from fl_app.strategies.replay import Drawing

_POLL_SECONDS = 0.5


class Sites(Protocol):
    """The sites that take part: node ids by name."""

    @property
    def unfit(self) -> Mapping[str, NodeOutcome]:
        """Nodes that are connected and cannot take part, with the reason."""

    def begin(self, grid: Grid) -> None:
        """Wait for all sites that a new run needs; raises FederationError if too few come in time."""

    def wait(self, grid: Grid) -> None:
        """Wait for as many sites as a round needs; raises FederationError if too few come in time."""

    def here(self, grid: Grid) -> dict[str, int]:
        """Return the sites that are connected: node ids by name, in the order of names."""

    def missing(self, grid: Grid) -> list[str]:
        """Return the sites that took part before and are not connected."""

    def described(self, site: str) -> SiteDescription | None:
        """Return a site's description of its images; None if unknown."""

    def held_classes(self, num_classes: int) -> list[bool]:
        """Return, for each class, whether any site ever held a training image of it."""

    def test_parts(self) -> str:
        """Return which test images sites measure: `common` or `own parts`."""


class Everyone:
    """All connected nodes take part, as `node-<id>`; none describes its images."""

    unfit: Mapping[str, NodeOutcome] = {}

    def __init__(self, min_nodes: int, wait_seconds: float = 3600.0) -> None:
        self.min_nodes = min_nodes
        self.wait_seconds = wait_seconds
        self._known: set[str] = set()

    def begin(self, grid: Grid) -> None:
        """Wait for `min_nodes`."""
        self.wait(grid)

    def wait(self, grid: Grid) -> None:
        """Wait for `min_nodes`."""
        started = time.monotonic()
        while len(here := self.here(grid)) < self.min_nodes:
            if time.monotonic() - started > self.wait_seconds:
                raise FederationError(f"{len(here)} of {self.min_nodes} nodes connected in {self.wait_seconds:g} s.")
            time.sleep(_POLL_SECONDS)
        self._known |= here.keys()

    def here(self, grid: Grid) -> dict[str, int]:
        """Return all nodes."""
        return {f"node-{node}": node for node in sorted(grid.get_node_ids())}

    def missing(self, grid: Grid) -> list[str]:
        """Return the nodes that were connected before and are not now."""
        return sorted(self._known - self.here(grid).keys())

    def described(self, site: str) -> SiteDescription | None:
        """Return None."""
        return None

    def held_classes(self, num_classes: int) -> list[bool]:
        """Return True for all classes: the moments show which classes have images."""
        return [True] * num_classes

    def test_parts(self) -> str:
        """Return `own parts`."""
        return "own parts"


class Unwatched:
    """An observer that does nothing."""

    def waiting(self, connected: int, needed: int, missing: Sequence[str]) -> None:
        """Do nothing."""

    def measuring(self, answered: int, asked: int) -> None:
        """Do nothing."""

    def answered(self, message_type: str, sites: Sequence[str], traffic: Traffic) -> None:
        """Do nothing."""

    def progressed(self, record: RoundRecord) -> None:
        """Do nothing."""

    def round_ended(self, record: RoundRecord, after: Snapshot) -> None:
        """Do nothing."""

    def rounds_over(self) -> None:
        """Do nothing."""


_ANY_UPDATE = {"max-weight": 0, "max-share": 0, "max-update-norm-ratio": 0, "norm-window": 1}


@dataclass(frozen=True)
class Setup:
    """What a run tells its strategy; the defaults are those of an ordinary Flower app.

    Attributes:
        task: what is trained, as records and logs name it.
        seed: for drawing the nodes of each round.
        wire: how messages are written; None: Flower's usual records.
        sites: which sites take part; None: all nodes, once Flower's `min_available_nodes` are connected.
        admission: checks replies.
        observer: receives the events of the run.
        blank_sums: sums of zero images, as nodes measure each set of weights: keys and shapes.
        fault_of: returns what is wrong with such sums; see `tasks.Task.fault_of`.
        min_replies: admitted replies that a round needs to succeed.
        nodes_per_round: nodes drawn for each round by the seed; 0: Flower's `fraction_train` decides.
        max_failed_rounds: failed rounds in a row after which the run stops.
        run_folder: where a run can be resumed, and where replies wait in the first round. If empty, the run cannot be
            resumed, and replies wait in the system's folder for temporary files.
        begins: nothing was trained before, so all sites that a new run needs must be connected.
        exchanged: rounds whose exchange of prototypes an earlier process has made.
        drawing: lets sites draw images of classes that they lack before a classifier's rounds; None: they draw none.
        on_exchange: receives each exchange of prototypes.
    """

    task: str = "model"
    seed: int = 0
    wire: Wire | None = None
    sites: Sites | None = None
    admission: Admission = field(default_factory=lambda: Admission(AdmissionOptions.model_validate(_ANY_UPDATE)))
    observer: Observer = field(default_factory=Unwatched)
    blank_sums: Sums = field(default_factory=dict)
    fault_of: FaultOf = no_fault
    min_replies: int = 1
    nodes_per_round: int = 0
    max_failed_rounds: int = 3
    run_folder: str = ""
    begins: bool = True
    exchanged: Container[int] = ()
    drawing: "Drawing | None" = None
    on_exchange: "Callable[[Exchange], None]" = lambda exchange: None
