"""The rounds of a federation: bounded waits, a deadline, a quorum, and a state to resume from."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fl_app.config import FederationOptions
from fl_app.errors import FederationError
from fl_app.flower import SERVER_STATE
from fl_app.incoming import MalformedReply
from fl_app.metrics.additive import Statistics
from fl_app.records import (
    CONFIG,
    EVALUATE,
    WEIGHTS,
    SiteDescription,
    Weights,
    add_models,
    array_record,
    instruction_config,
    read_statistics,
    to_weights,
)
from fl_app.seeding import numpy_generator_for
from fl_app.strategies.admission import Admission, Refusal, check_statistics
from fl_app.strategies.attendance import Attendance
from fl_app.strategies.averages import ServerEma
from fl_app.strategies.exchange import ChosenNodes, Traffic, exchange
from fl_app.strategies.ledger import NodeOutcome, Observer, RoundRecord, failure, shorten
from fl_app.strategies.roster import Roster
from fl_app.strategies.streaming import Streaming, prefixed
from fl_app.strategies.sums_admission import check_measured

log = logging.getLogger(__name__)

Judge = Callable[[str, Statistics], None]
Between = Callable[[Grid, int, Weights], None]

_OWN_SUMS = "own-sums"


class Resilient(Streaming):
    """Left of `Streaming`: runs the rounds, and goes on where a node does not.

    Attributes:
        roster: who takes part.
        is_pooled: one node holds the images of all, and it alone is asked.
        between: called before each round with the number of the last one and its weights.
        blank_own: the further sums, prefixed with `own/`, that replies of `own_rounds` hold; see `own_sums`.
        own_rounds: the rounds after which nodes measure their own trained network.
        own_sums: those sums of the last such round, by site.
        ema: the server's EMA, or None.
        ema_rounds: rounds in which nodes measure it: to send it doubles what goes to every node.
        attendance: waits for the sites.
        begins_run: nothing was trained before: all sites that the coordinator asked for must be there, and fit.
        failed_in_a_row: rounds without a result since the last one that had one.
    """

    def __init__(
        self,
        *,
        task: str,
        seed: int,
        run_name: str,
        run_folder: str,
        options: FederationOptions,
        admission: Admission,
        roster: Roster,
        observer: Observer,
        blank_sums: Statistics,
        is_pooled: bool = False,
        **flower: Any,
    ) -> None:
        super().__init__(
            admission=admission,
            min_replies=options.quorum,
            blank_sums=blank_sums,
            run_folder=run_folder,
            **flower,
        )
        self.task = task
        self.seed = seed
        self.run_name = run_name
        self.options = options
        self.roster = roster
        self.observer = observer
        self.attendance = Attendance(roster, options, observer)
        self.is_pooled = is_pooled
        self.between: Between = lambda grid, round_number, weights: None
        self.blank_own: Statistics = {}
        self.own_rounds: frozenset[int] = frozenset()
        self.own_sums: dict[str, Statistics] = {}
        self.ema: ServerEma | None = None
        self.ema_rounds: frozenset[int] = frozenset()
        self.begins_run = False
        self.failed_in_a_row = 0

    def run_rounds(self, grid: Grid, weights: Weights, first_round: int, num_rounds: int) -> Weights:
        """Train from `first_round` to `num_rounds` and return the last weights.

        Raises:
            FederationError: too few sites came within the time, or too many rounds in a row failed.
        """
        for number in range(first_round, num_rounds + 1):
            self.record = RoundRecord(self.task, number)
            self.gather(grid)  # waiting and getting to know each other are no part of a round's time
            self.observer.progressed(self.record)
            chosen = self._choose_nodes(grid, number)
            self.between(grid, number - 1, weights)
            if number in self.own_rounds:
                self.own_sums = {}
            started = time.monotonic()
            after = self._train_round(grid, weights, chosen)
            self.record.seconds = time.monotonic() - started
            self.failed_in_a_row = 0 if self.record.reason is None else self.failed_in_a_row + 1
            self.observer.round_ended(self.record, weights, after)
            weights = after
            if self.failed_in_a_row >= self.options.max_failed_rounds:
                raise FederationError(
                    f"{self.failed_in_a_row} rounds in a row failed, the last one because {self.record.reason}. "
                    f"{self._how_to_resume()}"
                )
        return weights

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Let Flower's strategy write the messages, and add the averages that nodes measure or continue."""
        messages = list(super().configure_train(server_round, arrays, config, grid))
        for message in messages[:1]:  # Flower gives all messages one and the same content
            is_due = self.ema is not None and server_round in self.ema_rounds
            add_models(message.content, self.ema.weights if self.ema and is_due else None, self.node_ema)
        return messages

    def evaluate(self, grid: Grid, models: dict[str, Weights]) -> tuple[dict[str, Statistics], dict[str, NodeOutcome]]:
        """Let all known nodes measure models on their held-out images.

        Returns:
            The statistics of each site and the outcome of each site.
        """
        content = self.instruction(0, models["raw"])
        add_models(content, models.get("ema"), models.get("node-ema"), models.get("initial"))

        def judge(site: str, sums: Statistics) -> None:
            described = self.described(site)
            check_measured(sums, list(models), described.validation_counts if described else None, self.fault_of)

        return self.ask(grid, EVALUATE, content, prefixed(self.blank_sums, models), judge=judge)

    def instruction(self, round_number: int, weights: Weights) -> RecordDict:
        """Return an instruction that holds weights."""
        config = instruction_config(self.task, round_number, self.run_name, self.run_folder)
        return RecordDict({CONFIG: config, WEIGHTS: array_record(weights)})

    def ask(
        self,
        grid: Grid,
        message_type: str,
        content: RecordDict,
        expected: Statistics,
        traffic: Traffic | None = None,
        judge: Judge = lambda site, sums: None,
    ) -> tuple[dict[str, Statistics], dict[str, NodeOutcome]]:
        """Ask all known sites that are connected for sums.

        Args:
            grid: Flower's connection to the nodes.
            message_type: which of the nodes' functions.
            content: the same for all.
            expected: names and shapes that an answer must have.
            traffic: is added to.
            judge: raises Refusal where an answer is not fit for another reason.

        Returns:
            The sums of each site that gave fit ones, in the order of the sites' names, and the outcome of each site.
        """
        here = self.participants(grid)
        sites = {node: site for site, node in here.items()}
        messages = [Message(content, dst_node_id=node, message_type=message_type) for node in sites]
        silent = NodeOutcome("late", f"it did not answer {message_type!r}")
        outcomes = {**self._absent(grid), **dict.fromkeys(here, silent)}
        parts: dict[str, Statistics] = {}
        self.observer.measuring(0, len(here))
        replies = exchange(grid, messages, self.options.round_deadline_seconds, traffic)
        for number, reply in enumerate(replies, start=1):
            self.observer.measuring(number, len(here))
            site = sites[reply.metadata.src_node_id]
            if reply.has_error():
                outcomes[site] = failure(reply.error)
                continue
            try:
                statistics = read_statistics(reply.content, expected)
                check_statistics(statistics, expected)
                judge(site, statistics)
            except (MalformedReply, Refusal) as error:
                outcomes[site] = NodeOutcome("refused", shorten(str(error)))
                continue
            except Exception as error:  # a fault of ours, but no reason to end the run of all others
                log.exception("The answer of site %s could not be judged", site)
                outcomes[site] = NodeOutcome("refused", f"it could not be judged ({type(error).__name__})")
                continue
            parts[site], outcomes[site] = statistics, NodeOutcome("contributed")
        log.info("%d of %d sites have sent fit sums for %r", len(parts), len(outcomes), message_type)
        return dict(sorted(parts.items())), outcomes

    def participants(self, grid: Grid) -> dict[str, int]:
        """Return the connected nodes that may be asked: ids by site; only the first one where it holds all images."""
        names = self.attendance.here(grid)
        return dict(list(names.items())[:1]) if self.is_pooled else names

    def described(self, site: str) -> SiteDescription | None:
        """Return what a site said of its images; None if it is not known, or holds those of all."""
        return None if self.is_pooled else self.roster.description(site)

    def gather(self, grid: Grid) -> None:
        """Wait for sites and get to know new ones.

        Raises:
            FederationError: too few came in time, or can take part.
        """
        try:
            if self.begins_run:
                self.attendance.begin(grid)
            else:
                self.attendance.wait(grid)
        except FederationError as error:
            raise FederationError(f"{error} {self._how_to_resume()}") from error
        self.begins_run = False

    def expected_sums(self) -> Statistics:
        """Return sums of 0 with the names and shapes that a reply's statistics must have: the EMA's, too."""
        own = self.blank_own if self.record.round_number in self.own_rounds else {}
        return {**super().expected_sums(), **own}

    def measured_names(self) -> list[str]:
        """Return the names of the sets of weights that nodes measure in this round: the EMA, too, if it is sent."""
        has_ema = self.ema is not None and self.record.round_number in self.ema_rounds
        return [*super().measured_names(), *(["ema"] if has_ema else [])]

    def state(self) -> tuple[dict[str, NDArray[np.generic]], dict[str, object]]:
        """Return what a resumed run needs beside the weights: arrays, and values for JSON."""
        arrays: dict[str, NDArray[np.generic]] = {}
        for name in SERVER_STATE:
            value = getattr(self, name, None)
            entries = value.items() if isinstance(value, dict) else enumerate(value or [])
            arrays.update({f"{name}/{key}": np.asarray(entry) for key, entry in entries})
        for site, sums in self.own_sums.items():
            arrays.update({f"{_OWN_SUMS}/{site}/{key}": np.asarray(value) for key, value in sums.items()})
        values = {
            "recent-norms": [list(norms) for norms in self.admission.recent_norms],
            "trained-on": dict(sorted(self.admission.trained_on.items())),
            "failed-in-a-row": self.failed_in_a_row,
            "ema-updates": self.ema.num_updates if self.ema else 0,
        }
        return arrays, dict(values)

    def restore(self, arrays: dict[str, NDArray[np.generic]], values: dict[str, Any]) -> None:
        """Take up a state that `state` returned; the EMA's weights are restored by the caller."""
        for name in SERVER_STATE:
            found = {key.split("/", 1)[1]: value for key, value in arrays.items() if key.startswith(f"{name}/")}
            if found:
                as_list = name == "momentum_vector"
                setattr(self, name, [found[str(i)] for i in range(len(found))] if as_list else found)
        own: dict[str, dict[str, NDArray[np.float64]]] = {}
        for key, value in arrays.items():
            if key.startswith(f"{_OWN_SUMS}/"):
                _, site, name = key.split("/", 2)
                own.setdefault(site, {})[name] = value.astype(np.float64)
        self.own_sums = {site: own[site] for site in sorted(own)}
        self.admission.recent_norms.extend([float(norm) for norm in norms] for norms in values["recent-norms"])
        self.admission.trained_on |= {site: float(images) for site, images in values.get("trained-on", {}).items()}
        self.failed_in_a_row = 0  # whoever resumes has mended something: it gets all its tries again
        if self.ema:
            self.ema.num_updates = int(values["ema-updates"])

    def _how_to_resume(self) -> str:
        return f'The run can be resumed with resume = "{self.run_folder}".'

    def _absent(self, grid: Grid) -> dict[str, NodeOutcome]:
        """Return the outcome of the sites that took part before and are not connected now."""
        missing = [] if self.is_pooled else self.attendance.missing(grid)
        return dict.fromkeys(missing, NodeOutcome("absent", "it was not connected"))

    def _train_round(self, grid: Grid, weights: Weights, chosen: dict[str, int]) -> Weights:
        number = self.record.round_number
        self.current = weights
        self.sites = {node: site for site, node in chosen.items()}
        self.record.asked = list(chosen)
        for site, outcome in {**self.roster.unfit, **self._absent(grid)}.items():
            self._note(site, outcome)
        self.observer.progressed(self.record)
        config = instruction_config(self.task, number, self.run_name, self.run_folder)
        only_chosen = cast(Grid, ChosenNodes(list(chosen.values())))
        messages = self.configure_train(number, array_record(weights), config, only_chosen)
        arrays, _ = self.aggregate_train(number, self._replies(grid, messages))
        if number in self.own_rounds:
            self.own_sums = self._collect_own()
        if arrays is None:
            return weights
        after = to_weights(arrays)
        if self.ema:
            self.ema.update(after)
        return after

    def _replies(self, grid: Grid, messages: Iterable[Message]) -> Iterator[Message]:
        """Yield replies as they come; who has not answered by the deadline is late."""
        for reply in exchange(grid, messages, self.options.round_deadline_seconds, self.record.traffic):
            yield reply
            del reply
            self.observer.progressed(self.record)
        for site in self.record.asked:
            if site not in self.record.nodes:
                limit = self.options.round_deadline_seconds
                self._note(site, NodeOutcome("late", f"no reply within {limit:g} s"))

    def _collect_own(self) -> dict[str, Statistics]:
        """Return what the nodes of this round measured with their own networks, by site; nothing if it failed."""
        if self.record.reason is not None:
            return {}
        sums = self.record.statistics()
        return {site: {key: part[key] for key in self.blank_own} for site, part in sums.items()}

    def _choose_nodes(self, grid: Grid, number: int) -> dict[str, int]:
        """Return node ids by site: the connected ones, or a seeded draw of them."""
        names = self.participants(grid)
        wanted = self.options.nodes_per_round
        if wanted == 0 or wanted >= len(names):
            return names
        drawn = numpy_generator_for(self.seed, "server", number, "nodes").choice(sorted(names), wanted, replace=False)
        return {site: names[site] for site in sorted(map(str, drawn))}
