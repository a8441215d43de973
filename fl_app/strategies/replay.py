"""Lets the sites draw images of classes that they lack, before a classifier is trained."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from flwr.serverapp import Grid

from fl_app.errors import RejectedReply
from fl_app.messages.arrays import Weights
from fl_app.messages.records import instruction_config
from fl_app.messages.replay import DRAW, write_draw
from fl_app.strategies.asking import Asking
from fl_app.strategies.node_outcome import NodeOutcome
from fl_app.strategies.outcomes import Traffic
from fl_app.sums import Sums, are_counts

log = logging.getLogger(__name__)

_SILENT = NodeOutcome("late")


@dataclass
class Drawing:
    """Asks each site once to draw.

    Attributes:
        weights: of the exported diffusion model.
        round_number: after which it was exported.
        held: of each class, whether any site has a training image of it.
        most: images of a class that a site draws.
        run_name: of the run; `run_folder`, too.
        drawn: images of each class, by site.
        outcomes: of the sites that were asked.
        traffic: counts bytes.
    """

    weights: Weights
    round_number: int
    held: Sequence[bool]
    most: int
    run_name: str
    run_folder: str
    drawn: dict[str, list[int]] = field(default_factory=dict)
    outcomes: dict[str, NodeOutcome] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=Traffic)

    def ask_new(self, asking: Asking, grid: Grid) -> None:
        """Ask the connected sites that have not answered yet."""
        new = {site for site in asking.who.here(grid) if self.outcomes.get(site, _SILENT).outcome == "late"}
        if not new:
            return
        config = instruction_config("diffusion", self.round_number, self.run_name, self.run_folder)
        content, blank = write_draw(config, self.weights, self.held), {"drawn": np.zeros(len(self.held))}
        parts, outcomes = asking.ask(grid, DRAW, content, blank, self.traffic, judge=self._judge, only=new)
        self.drawn |= {site: [int(count) for count in sums["drawn"]] for site, sums in parts.items()}
        self.outcomes |= outcomes
        for site, counts in ((site, self.drawn[site]) for site in parts):
            log.info("Site %s trains on generated images beside its own, of each class: %s", site, counts)

    def _judge(self, site: str, sums: Sums) -> None:
        if not are_counts(sums["drawn"]) or (sums["drawn"] > self.most).any():
            raise RejectedReply("its numbers of generated images are no counts, or more than the run's options allow")
