"""Rounds of a federation of one: the node's real code answers messages that are written here and sent nowhere."""

import secrets
import tempfile
from collections.abc import Callable, Mapping

from flwr.app import Context, Message, RecordDict

from fl_app.data.images import DatasetInfo
from fl_app.doctor.finding import Finding
from fl_app.doctor.training import LocalRound, judge_training
from fl_app.errors import FlAppError
from fl_app.flower import identify
from fl_app.messages.arrays import Weights, pack, to_numpy
from fl_app.messages.records import CONFIG, EVALUATE, TRAIN, WEIGHTS, instruction_config, read_reply, read_sums
from fl_app.node import client
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue
from fl_app.sums import Sums
from fl_app.tasks import Task, build_task, initial_weights

_NODE = 1


def rehearse(
    task_name: str, config: RunConfig, info: DatasetInfo, node: Mapping[str, OptionValue], num_rounds: int
) -> Finding:
    """Train a task for some rounds on the node's images, and measure what came of it.

    What the node keeps between rounds lies in a temporary folder.

    Args:
        task_name: of the run.
        config: of the run.
        info: of the run's images.
        node: the node's options, as fl-app supernode takes them.
        num_rounds: how many; the step size falls as in a whole run.

    Raises:
        FlAppError: the node answered with an error; its text is safe to send.
    """
    task = build_task(task_name, config, info)
    identify(1, _NODE)
    with tempfile.TemporaryDirectory() as state:
        unlimited = dict.fromkeys(("max-rounds-per-day", "max-queries-per-day"), 0)  # these are no real messages
        own: dict[str, OptionValue] = {"check-weights": False, "state-dir": state}
        ask = _Node(task_name, config, {**node, **unlimited, **own}).ask
        weights = to_numpy(initial_weights(task, config.seed))
        rounds: list[LocalRound] = []
        before: Sums = {}
        for number in range(1, num_rounds + 1):
            reply = read_reply(ask(client.train, TRAIN, number, weights))
            loss = reply.loss_sum / reply.num_losses if reply.num_losses else float("nan")
            rounds.append(LocalRound(loss, int(reply.num_losses), reply.seconds))
            before = before or reply.sums  # of the weights that the first round began with
            weights = reply.weights
        after = read_sums(ask(client.evaluate, EVALUATE, num_rounds, weights).content)
    return judge_training(task_name, rounds, _loss(task, before), _loss(task, after))


class _Node:
    """This machine's node: takes instructions, gives answers."""

    def __init__(self, task: str, config: RunConfig, options: Mapping[str, OptionValue]) -> None:
        self._task = task
        self._run_name = f"doctor-{secrets.token_hex(4)}"
        self._context = Context(1, _NODE, dict(options), RecordDict(), dict(config.to_flat()))

    def ask(
        self,
        handle: Callable[[Message, Context], Message],
        kind: str,
        number: int,
        weights: Weights,
    ) -> Message:
        """Return the answer to an instruction; raises FlAppError where it is an error."""
        config = instruction_config(self._task, number, self._run_name, "")
        content = RecordDict({CONFIG: config, WEIGHTS: pack(weights)})
        answer = handle(Message(content, dst_node_id=_NODE, message_type=kind), self._context)
        if answer.has_error():
            raise FlAppError(str(answer.error.reason))
        return answer


def _loss(task: Task, sums: Sums) -> float | None:
    """Return the loss of the weights that the instructions hold."""
    prefix = "raw/"
    raw = {key.removeprefix(prefix): value for key, value in sums.items() if key.startswith(prefix)}
    return task.loss_of(raw) if raw else None
