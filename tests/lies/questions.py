"""Questions that a server asks beside training: each is asked again, with a false answer of one site."""

import shutil
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, RecordDict

from fl_app import evaluation, server
from fl_app.flower import identify
from fl_app.messages.quality import QUALITY
from fl_app.messages.records import CONFIG, EVALUATE, HEADS, MOMENTS
from fl_app.options.sections import OptionValue
from fl_app.quality.figure import Figure
from fl_app.quality.figures import quality_figures
from fl_app.strategies.asking import Asking
from fl_app.strategies.node_outcome import NodeOutcome
from fl_app.sums import Sums
from tests.lies.replay import LIAR, NUM_SITES, RUN, Contents, Replay
from tests.tiny import tiny_run

Parts = Mapping[str, Sums]
Answers = tuple[dict[str, Sums], dict[str, NodeOutcome]]

_ELSEWHERE = (EVALUATE, HEADS, MOMENTS)  # the scenarios lie about these
_OPTIONS: dict[str, OptionValue] = {
    "tasks": "diffusion,classification",
    "data.limit": 300,
    "federation.min-nodes": 2,
    "federation.min-replies": 2,
    "diffusion.num-rounds": 2,
    "classification.num-rounds": 1,
    "classification.replay": "generated",
    "classification.replay-images": 5,
    "partition.scheme": "pathological",
    "partition.classes-per-node": 8,
    "quality.num-images": 60,
    "quality.features": "pixels,classifier",
    "quality.curve": "pixels",
    "quality.curve-images": 20,
    "gallery-every": 1,
    "audit.membership": True,
    "audit.copies-images": 40,
}


@dataclass(frozen=True)
class Question:
    """What a server asked all sites.

    Attributes:
        name: kind of the message, and what was measured.
        kind: of the message.
        ask: asks the sites again, through the strategy that asked.
        truth: what the liar sends if it is honest.
        honest: the sums by site if nobody lies.
    """

    name: str
    kind: str
    ask: Callable[[], Answers]
    truth: RecordDict
    honest: Parts

    @property
    def absent(self) -> Parts:
        """The sums without the liar."""
        return {site: sums for site, sums in self.honest.items() if site != LIAR}


class Asked:
    """A whole run of three sites, and every question of its server.

    Attributes:
        questions: by name.
        figures: what the server makes of the sums, by the name of the feature network.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / RUN
        self._config = tiny_run(folder, _OPTIONS)
        self._grid = Replay(self._config)
        self._noted: list[tuple[str, str, Callable[[], Answers]]] = []
        self.figures: dict[str, Callable[[Parts], list[Figure]]] = {}
        self._known: dict[str, list[list[Figure]]] = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Asking, "ask", self._noting(Asking.ask))
            patch.setattr(evaluation, "quality_figures", self._figures)
            self.run_whole({})
        self.questions = {name: self._question(name, kind, ask) for name, kind, ask in self._noted}

    def run_whole(self, false: Contents) -> Path:
        """Run the whole server with false messages of one site, by kind; return the run folder."""
        shutil.rmtree(self._folder, ignore_errors=True)
        identify(1, 1)
        self._grid.false = false
        options: Mapping[str, Any] = self._config.to_flat()
        server.run(self._grid, Context(1, 1, {}, RecordDict(), dict(options)))
        return self._folder

    def tell(self, question: Question, false: RecordDict) -> Answers:
        """Ask a question, which the liar answers with a lie."""
        self._grid.false = {question.kind: false}
        try:
            return question.ask()
        finally:
            self._grid.false = {}

    def known_figures(self, question: Question, network: str) -> list[list[Figure]]:
        """Return the figures of the honest run, and those without the liar."""
        if question.name not in self._known:
            made = self.figures[network]
            self._known[question.name] = [made(question.honest), made(question.absent)]
        return self._known[question.name]

    def _noting(self, ask: Callable[..., Answers]) -> Callable[..., Answers]:
        def noted(strategy: Asking, grid: Replay, kind: str, content: RecordDict, *rest: Any, **more: Any) -> Answers:
            if kind not in _ELSEWHERE:
                measured = str(content.config_records[CONFIG].get("measured", ""))
                name = f"{kind} {measured}".strip() if kind == QUALITY else kind
                again = copy(content)
                self._noted.append((name, kind, lambda: ask(strategy, grid, kind, again, *rest, **more)))
            return ask(strategy, grid, kind, content, *rest, **more)

        return noted

    def _figures(self, network: str, names: Any, parts: Parts, generated: Sums, neighbours: int) -> Any:
        self.figures[network] = lambda sums: list(quality_figures(network, names, sums, generated, neighbours))
        return quality_figures(network, names, parts, generated, neighbours)

    def _question(self, name: str, kind: str, ask: Callable[[], Answers]) -> Question:
        parts, outcomes = ask()
        assert {one.outcome for one in outcomes.values()} == {"contributed"} and len(parts) == NUM_SITES
        return Question(name, kind, ask, self._grid.true[kind], parts)
