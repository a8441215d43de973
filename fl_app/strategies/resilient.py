"""The rounds of a federation: bounded waits, a deadline, a quorum, and a state to resume from."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result
from numpy.typing import NDArray

from fl_app.errors import FederationError
from fl_app.flower import restore_server_state, server_state
from fl_app.messages.arrays import Weights, array_record, to_weights
from fl_app.messages.records import add_models
from fl_app.seeding import numpy_generator_for
from fl_app.strategies.asking import Asking
from fl_app.strategies.node_outcome import NodeOutcome
from fl_app.strategies.outcomes import RoundRecord, Snapshot, absent
from fl_app.strategies.setup import Setup
from fl_app.strategies.transport import ChosenNodes, send_and_receive

log = logging.getLogger(__name__)

EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]


class Resilient(Asking):
    """Mixin placed before a Flower strategy in the MRO: runs the rounds, and goes on if a node does not.

    Attributes:
        first_round: that `start` begins with; later than 1 after `restore`.
        num_rounds: that `start` was asked for.
        failed_in_a_row: rounds without a result since the last one that had one.
        num_counted: rounds that counted; None: not known, after a state of an older version was restored.
    """

    def __init__(self, *, setup: Setup | None = None, **flower: Any) -> None:
        super().__init__(setup=setup, **flower)
        self.first_round = 1
        self.num_rounds = 0
        self.failed_in_a_row = 0
        self.num_counted: int | None = 0
        self._begins = self.setup.begins

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: EvaluateFn | None = None,
    ) -> Result:
        """Run the federation, as Flower's own `start`: the same arguments and result.

        Args:
            grid: Flower's connection to the nodes.
            initial_arrays: the weights to start from; of a run that is resumed, its last ones.
            num_rounds: the number of the last round.
            timeout: seconds that nodes have to answer; who comes later is left out of the round.
            train_config: goes to the nodes with every training instruction.
            evaluate_config: goes to the nodes with every evaluation, if Flower's `fraction_evaluate` is above 0.
            evaluate_fn: evaluates the weights at the server, before the first round and after each one.

        Raises:
            FederationError: too few sites came in time, too many rounds in a row failed, or no round counted.
        """
        self.deadline_seconds, self.num_rounds = timeout, num_rounds
        weights, result = to_weights(initial_arrays), Result()
        if self.first_round == 1:
            self.begin(weights)
            _keep(result.evaluate_metrics_serverapp, 0, evaluate_fn(0, initial_arrays) if evaluate_fn else None)
        for number in range(self.first_round, num_rounds + 1):
            weights, metrics = self._round(grid, number, weights, train_config or ConfigRecord())
            _keep(result.train_metrics_clientapp, number, metrics)
            if self.fraction_evaluate > 0:
                metrics = self._evaluate(grid, number, weights, evaluate_config or ConfigRecord())
                _keep(result.evaluate_metrics_clientapp, number, metrics)
            if evaluate_fn:
                _keep(result.evaluate_metrics_serverapp, number, evaluate_fn(number, array_record(weights)))
        if self.num_counted == 0 and num_rounds > 0:
            last = f"the last one because {self.record.reason}" if self.record.reason else "and none is left to run"
            raise FederationError(f"Nothing was learned: no round counted, {last}.")
        self._gather(grid)
        self.setup.observer.rounds_over()
        self.after_rounds(grid, weights, num_rounds)
        result.arrays = array_record(weights)
        return result

    def begin(self, weights: Weights) -> None:
        """Set what a strategy keeps beside the weights to where a new run starts from; a hook."""

    def before_round(self, grid: Grid, number: int, weights: Weights) -> None:
        """Do what is due before a round, with the weights of the round before; a hook."""

    def after_training(self, number: int, after: Weights | None) -> None:
        """Take in the weights of a round; None if it failed; a hook."""

    def after_rounds(self, grid: Grid, weights: Weights, number: int) -> None:
        """Do what is due after the last round, whose number that is; a hook."""

    def extra_models(self, number: int) -> dict[str, Weights]:
        """Return further weights that travel with an instruction: `ema`, `node-ema`; a hook."""
        return {}

    def models(self, raw: Weights) -> dict[str, Weights]:
        """Return every set of weights that can be measured, saved and exported, by name; a hook."""
        return {"raw": raw}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Let Flower's strategy write the messages, and add further weights."""
        messages = list(super().configure_train(server_round, arrays, config, grid))
        for message in messages[:1]:  # Flower gives all messages one and the same content
            more = self.extra_models(server_round)
            add_models(message.content, more.get("ema"), more.get("node-ema"))
        return messages

    def state(self) -> tuple[dict[str, NDArray[np.generic]], dict[str, object]]:
        """Return what a resumed run needs beside the weights: arrays, and values for JSON."""
        values = {
            "recent-norms": [list(norms) for norms in self.admission.recent_norms],
            "recent-arrays": [dict(norms) for norms in self.admission.recent_arrays],
            "trained-on": dict(sorted(self.admission.trained_on.items())),
            "failed-in-a-row": self.failed_in_a_row,
            "counted": self.num_counted,
        }
        return server_state(self), dict(values)

    def snapshot(self, number: int, weights: Weights) -> Snapshot:
        """Return all that a run needs to go on after a round."""
        arrays, values = self.state()
        return Snapshot(number, self.models(weights), arrays, values)

    def restore(self, snapshot: Snapshot) -> None:
        """Go on after the round of a snapshot."""
        self.first_round = snapshot.last_round + 1
        restore_server_state(self, snapshot.arrays)
        self.admission.recent_norms.extend([float(norm) for norm in norms] for norms in snapshot.values["recent-norms"])
        self.admission.recent_arrays.extend(
            {key: float(norm) for key, norm in norms.items()} for norms in snapshot.values.get("recent-arrays", [])
        )
        self.admission.trained_on |= {
            site: float(images) for site, images in snapshot.values.get("trained-on", {}).items()
        }
        self.failed_in_a_row = 0  # whoever resumes has fixed something: the run gets all its tries again
        self.num_counted = snapshot.values.get("counted")

    def _round(
        self, grid: Grid, number: int, weights: Weights, config: ConfigRecord
    ) -> tuple[Weights, MetricRecord | None]:
        """Run one round and return the weights after it, the same object if it failed, and the nodes' metrics."""
        self.record = RoundRecord(self.setup.task, number)
        self._gather(grid)  # waiting and getting to know each other are no part of a round's time
        self.setup.observer.progressed(self.record)
        chosen = self._choose_nodes(grid, number)
        self.before_round(grid, number, weights)
        started = time.monotonic()
        after, metrics = self._train(grid, weights, chosen, config)
        self.record.seconds = time.monotonic() - started
        if self.record.reason is None:
            self.failed_in_a_row = 0
            self.num_counted = (self.num_counted or 0) + 1
        else:
            self.failed_in_a_row += 1
        self.setup.observer.round_ended(self.record, self.snapshot(number, after))
        if self.failed_in_a_row >= self.setup.max_failed_rounds:
            raise FederationError(
                f"{self.failed_in_a_row} rounds in a row failed, the last one because {self.record.reason}. "
                f"{self._how_to_resume()}"
            )
        return after, metrics

    def _gather(self, grid: Grid) -> None:
        """Wait for sites; raises FederationError if too few come in time, or can take part."""
        try:
            if self._begins:
                self.who.begin(grid)
            else:
                self.who.wait(grid)
        except FederationError as error:
            raise FederationError(f"{error} {self._how_to_resume()}".strip()) from error
        self._begins = False

    def _train(
        self, grid: Grid, weights: Weights, chosen: dict[str, int], config: ConfigRecord
    ) -> tuple[Weights, MetricRecord | None]:
        number = self.record.round_number
        self.current = weights
        self.sites = {node: site for site, node in chosen.items()}
        self.record.asked = list(chosen)
        for site, outcome in {**self.who.unfit, **absent(self.who.missing(grid))}.items():
            self._note(site, outcome)
        self.setup.observer.progressed(self.record)
        only_chosen = cast(Grid, ChosenNodes(list(chosen.values())))
        written = ConfigRecord({**config, **self.wire.config(number)})
        messages = list(self.configure_train(number, array_record(weights), written, only_chosen))
        drawn = {message.metadata.dst_node_id for message in messages}  # fewer if `fraction_train` is below 1
        self.record.asked = [site for site, node in chosen.items() if node in drawn]
        arrays, metrics = self.aggregate_train(number, self._replies(grid, messages))
        after = to_weights(arrays) if arrays is not None else None
        self.after_training(number, after)
        return weights if after is None else after, metrics

    def _replies(self, grid: Grid, messages: Iterable[Message]) -> Iterator[Message]:
        """Yield replies as they come; who has not answered by the deadline is late."""
        for reply in send_and_receive(grid, messages, self.deadline_seconds, self.record.traffic, self.wire.pack):
            yield reply
            del reply
            self.setup.observer.progressed(self.record)
        for site in self.record.asked:
            if site not in self.record.nodes:
                self._note(site, NodeOutcome("late", f"no reply within {self.deadline_seconds:g} s"))

    def _evaluate(self, grid: Grid, number: int, weights: Weights, config: ConfigRecord) -> MetricRecord | None:
        """Let nodes evaluate the weights, as Flower does after each round."""
        only_here = cast(Grid, ChosenNodes(list(self.who.here(grid).values())))
        messages = self.configure_evaluate(number, array_record(weights), config, only_here)
        replies = send_and_receive(grid, messages, self.deadline_seconds, None, self.wire.pack)
        return self.aggregate_evaluate(number, replies)

    def _choose_nodes(self, grid: Grid, number: int) -> dict[str, int]:
        """Return node ids by site: the connected ones, or a seeded draw of them."""
        names, wanted = self.who.here(grid), self.setup.nodes_per_round
        if wanted == 0 or wanted >= len(names):
            return names
        generator = numpy_generator_for(self.setup.seed, "server", number, "nodes")
        return {site: names[site] for site in sorted(map(str, generator.choice(sorted(names), wanted, replace=False)))}

    def _how_to_resume(self) -> str:
        folder = self.setup.run_folder
        return f'The run can be resumed with resume = "{folder}".' if folder else ""


def _keep(found: dict[int, MetricRecord], number: int, metrics: MetricRecord | None) -> None:
    if metrics is not None:
        found[number] = metrics
