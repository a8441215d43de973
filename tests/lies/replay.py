"""A federation whose honest nodes answer once: each lie is judged by the real server, without training anew."""

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context, Message, RecordDict

from fl_app import server
from fl_app.classification.prediction import classify
from fl_app.data.images import ImageSet
from fl_app.data.sources import CommonTest, load_parts, stated_info
from fl_app.flower import identify
from fl_app.messages.arrays import Weights, array_record, to_numpy, to_weights
from fl_app.messages.contents import digest
from fl_app.messages.records import DESCRIBE, EVALUATE, TRAIN
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue
from fl_app.passes import ClassificationPass, Pass, build_pass
from fl_app.runs.documents import FAULTS
from fl_app.runs.history import STEADY_FACTOR, Losses, measured_losses, objection
from fl_app.strategies.admission import Admission
from fl_app.strategies.attendance import Attendance
from fl_app.strategies.node_outcome import NodeOutcome
from fl_app.strategies.prototypes import Exchange
from fl_app.strategies.resilient import Resilient
from fl_app.strategies.roster import Roster
from fl_app.strategies.setup import Setup, Unwatched
from fl_app.strategies.transport import PackedWire
from fl_app.sums import Sums
from fl_app.tasks import initial_weights
from tests.federation import LocalGrid
from tests.tiny import tiny_run

NUM_SITES = 3
LIAR, LIAR_NODE = "site-1", 1001
RUN = "run"

Contents = Mapping[str, RecordDict]  # what the liar sends, by kind of message


class Replay(LocalGrid):
    """Asks the real node once for each different instruction, and then answers from memory.

    Attributes:
        answers: of nodes, by node, kind of message and digest of the instruction.
        true: what the liar last was about to send, by kind of message.
        false: what the liar sends in place of its answer.
        is_absent: the liar is not connected.
        is_alone: only the liar is.
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config, NUM_SITES, meddle=self._lie, is_away=self._is_away)
        self.answers: dict[tuple[int, str, str], Message] = {}
        self.true: dict[str, RecordDict] = {}
        self.false: Contents = {}
        self.is_absent = self.is_alone = False

    def push_messages(self, messages: Any) -> Any:
        """Take messages; remember none."""
        found = super().push_messages(messages)
        self.sent.clear()
        return found

    def _is_away(self, number: int, sent: object) -> bool:
        return self.is_absent if number == LIAR_NODE % 1000 else self.is_alone

    def _lie(self, instruction: Message, reply: Message) -> Message:
        kind = instruction.metadata.message_type
        if instruction.metadata.dst_node_id == LIAR_NODE and reply.has_content():
            self.true[kind] = reply.content
        if instruction.metadata.dst_node_id == LIAR_NODE and kind in self.false:
            return Message(self.false[kind], reply_to=instruction)
        return Message(reply.content, reply_to=instruction) if reply.has_content() else reply

    def _answer(self, instruction: Message) -> Message:
        metadata = instruction.metadata
        key = (metadata.dst_node_id, metadata.message_type, digest(instruction.content))
        if key not in self.answers:
            self.answers[key] = super()._answer(instruction)
        return self.answers[key]


@dataclass(frozen=True)
class Shipped:
    """The classifier that is exported, on all test images.

    Attributes:
        head: that ships.
        accuracies: of each of its heads.
        abstains: share of the images that get no answer.
        temperature: of the head that ships; None: it has none.
    """

    head: str
    accuracies: dict[str, float]
    abstains: float
    temperature: float | None


@dataclass(frozen=True)
class Outcome:
    """What came out of a run.

    Attributes:
        faults: reasons of each site whose message was rejected, failed or came late, by site.
        warnings: of the log.
        strategy: after training.
        weights: that are exported.
        chosen: their name.
        learned: whether a model is exported.
        round_losses: of the weights before training, measured in the first round.
        train_loss: as the log shows it.
        final_losses: of the final measurement.
        true_loss: of the exported weights, on the held-out images of the honest sites.
        exchange: of prototypes; None: none was made.
        shipped: the classifier that is exported, on all test images; None: none is.
    """

    faults: dict[str, list[str]]
    warnings: list[str]
    strategy: Resilient
    weights: Weights
    chosen: str
    learned: bool
    round_losses: Losses
    train_loss: float | None
    final_losses: Losses
    true_loss: float
    exchange: Exchange | None
    shipped: Shipped | None


class Federation:
    """Three sites and a server, in one process.

    Attributes:
        config: of the run.
        claims: false messages that the liar sends in every run, by kind.
    """

    def __init__(self, folder: Path, task: str, changes: Mapping[str, OptionValue]) -> None:
        options: dict[str, OptionValue] = {"tasks": task, f"{task}.num-rounds": 1}
        options |= {"federation.min-nodes": 2, "federation.min-replies": 2}
        self.config = tiny_run(folder, {**options, **changes})
        self._folder = str(folder / RUN)
        info = stated_info(self.config.data)
        assert info is not None
        self.info = info
        self._common = CommonTest.of_run(self.config)
        identify(1, 1)
        self.grid = Replay(self.config)
        self.claims: Contents = {}
        self.run_pass: Pass[Any] = build_pass(self.config.passes()[0], self.config, info)
        self.initial = to_numpy(initial_weights(self.run_pass.task, self.config.seed))

    @cached_property
    def honest(self) -> Outcome:
        """What comes out if nobody lies."""
        found = self.run()
        self._first = list(self.grid.answers.items())
        return found

    @cached_property
    def absent(self) -> Outcome:
        """What comes out without the liar."""
        return self.run(is_absent=True)

    def truths(self) -> dict[str, RecordDict]:
        """Return what the liar sends if it is honest, by kind of message, in the order in which they are asked for."""
        assert self.honest.learned
        return {kind: reply.content for (node, kind, _), reply in self._first if node == LIAR_NODE}

    def claiming(self, claims: Contents) -> "Federation":
        """Return the same federation, whose liar also sends these false messages in every run."""
        assert self.honest.learned and self.absent.learned
        other = copy(self)
        other.claims = claims
        other.__dict__.pop("_trained", None)
        return other

    def run(self, false: Contents | None = None, is_absent: bool = False, is_short: bool = False) -> Outcome:
        """Run the federation from the descriptions to what would be exported, with lies of one site.

        Args:
            false: what that site sends in place of the truth, by kind of message.
            is_absent: it is not connected.
            is_short: what happened before the first lie is taken from the honest run.

        Raises:
            Rejected: a message is rejected, and the run is a short one.
        """
        new = false or {}
        self.grid.false, self.grid.is_absent = {**self.claims, **new}, is_absent
        is_early = not is_short or bool({DESCRIBE, TRAIN} & new.keys())
        with _warnings() as warnings:
            if is_early:
                roster, strategy, weights = self._train(is_short)
            else:
                roster, strategy, weights = self._trained
                _reject_early(strategy, self.grid)
                if new.keys() != {EVALUATE}:
                    strategy.after_rounds(self.grid, weights, self.run_pass.num_rounds)
            parts, outcomes = strategy.measure(self.grid, {**strategy.models(weights), "initial": self.initial})
        return self._outcome(roster, strategy, weights, parts, outcomes, warnings)

    def run_whole(self, false: Contents) -> Path:
        """Run the whole server with lies of one site; return the run folder."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self.grid.false, self.grid.is_absent = {**self.claims, **false}, False
        options: Mapping[str, Any] = self.config.to_flat()
        server.run(self.grid, Context(1, 1, {}, RecordDict(), dict(options)))
        return Path(self._folder)

    @cached_property
    def _trained(self) -> tuple[Roster, Resilient, Weights]:
        before, self.grid.false = self.grid.false, self.claims
        found = self._train(False)
        self.grid.false = before
        return found

    def _train(self, is_short: bool) -> tuple[Roster, Resilient, Weights]:
        """Go through the descriptions, the rounds, and the exchange of prototypes, as the server does."""
        task = self.run_pass.task
        roster = Roster(self.info, 60.0, {}, self._common.counts, None)
        setup = Setup(
            task=self.run_pass.name,
            wire=PackedWire(self.run_pass.name, RUN, self._folder),
            sites=Attendance(roster, self.config.federation, Unwatched()),
            admission=Admission(self.config.admission, task.options.epochs),
            blank_sums=task.blank_sums(),
            fault_of=task.fault_of,
            min_replies=2,
            run_folder=self._folder,
        )
        Path(self._folder).mkdir(exist_ok=True)
        strategy: Resilient = self.run_pass.strategy(setup)
        if is_short:
            _reject_early(strategy, self.grid)
        result = strategy.start(self.grid, array_record(self.initial), self.run_pass.num_rounds, 60.0)
        assert result.arrays is not None
        return roster, strategy, to_weights(result.arrays)

    def _outcome(
        self,
        roster: Roster,
        strategy: Resilient,
        weights: Weights,
        parts: Mapping[str, Sums],
        outcomes: Mapping[str, NodeOutcome],
        warnings: list[str],
    ) -> Outcome:
        task, models = self.run_pass.task, strategy.models(weights)
        final = measured_losses(task.loss_of, parts)
        chosen = final.better or "raw"
        others = {site: sums for site, sums in parts.items() if site != LIAR}
        improved = partial(self.run_pass.improved, strategy)
        reason = objection(self.run_pass.name, improved, chosen, models[chosen], parts, roster.hold_out(), [])
        exchange: Exchange | None = getattr(strategy, "exchanges", {}).get(self.run_pass.num_rounds)
        return Outcome(
            faults=_faults(roster.unfit, strategy.record.nodes, exchange.left_out if exchange else {}, outcomes),
            warnings=warnings,
            strategy=strategy,
            weights=models[chosen],
            chosen=chosen,
            learned=reason is None,
            round_losses=measured_losses(task.loss_of, strategy.record.sums()),
            train_loss=strategy.record.steady_loss(STEADY_FACTOR),
            final_losses=final,
            true_loss=measured_losses(task.loss_of, others).of[chosen],
            exchange=exchange,
            shipped=self._shipped(exchange),
        )

    @cached_property
    def _test(self) -> ImageSet:
        return load_parts(self.config.data, self.config.seed, ("train", "test"))["test"]

    def _shipped(self, exchange: Exchange | None) -> Shipped | None:
        if exchange is None:
            return None
        assert isinstance(self.run_pass, ClassificationPass)
        model = self.run_pass._classifier(exchange)
        labels = self._test.labels.numpy()
        answers = {head: classify(model, self._test.images, head, torch.device("cpu")) for head in model.heads}
        return Shipped(
            head=model.shipped,
            accuracies={head: float((found.labels == labels).mean()) for head, found in answers.items()},
            abstains=float(answers[model.shipped].abstain.mean()),
            temperature=model.temperatures.get(model.shipped),
        )


class Rejected(Exception):
    """A message of the liar was rejected; the text is the reason."""


def _reject_early(strategy: Resilient, grid: Replay) -> None:
    """Let a strategy raise Rejected as soon as a message of the liar is rejected; it is judged before the others'."""
    after_training = type(strategy).after_training.__get__(strategy)
    ask = type(strategy).ask.__get__(strategy)

    def check(outcomes: Mapping[str, NodeOutcome]) -> None:
        for site in (LIAR, f"node-{LIAR_NODE}"):
            if site in outcomes and outcomes[site].outcome in FAULTS:
                raise Rejected(outcomes[site].reason)

    def checked_training(number: int, after: Weights | None) -> None:
        check(strategy.record.nodes)
        after_training(number, after)

    def checked_ask(grid: Replay, kind: str, *rest: Any, **more: Any) -> Any:
        if kind in grid.false:
            grid.is_alone = True
            try:
                check(ask(grid, kind, *rest, **more)[1])
            finally:
                grid.is_alone = False
        return ask(grid, kind, *rest, **more)

    strategy.after_training, strategy.ask = checked_training, checked_ask  # type: ignore[assignment, method-assign]


def _faults(*outcomes: Mapping[str, NodeOutcome]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for site, node in (pair for part in outcomes for pair in part.items()):
        if node.outcome in FAULTS:
            found.setdefault(site, []).append(str(node.reason))
    return found


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect the warnings of the log, which go nowhere else."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    ours = logging.getLogger("fl_app")
    before, propagates = ours.level, ours.propagate
    ours.addHandler(handler)
    ours.propagate = False
    try:
        yield found
    finally:
        ours.removeHandler(handler)
        ours.propagate = propagates
        ours.setLevel(before)
