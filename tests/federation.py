"""A federation in one process: real messages through the real apps, without Ray and without a network."""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

import client_app
from fl_app import server
from fl_app.config import RunConfig

Meddle = Callable[[Message, Message], Message | None]  # (instruction, reply) -> what arrives; None: nothing ever does


class LocalGrid(Grid):
    """Calls the real ClientApp when a reply is asked for.

    Args:
        config: options of the run, for the nodes.
        num_nodes: simulated nodes.
        meddle: may replace or withhold a reply.
        order: in which pending replies arrive: a sort key over node numbers.
    """

    def __init__(
        self,
        config: RunConfig,
        num_nodes: int,
        meddle: Meddle | None = None,
        order: Callable[[int], int] = lambda node: node,
    ) -> None:
        self.config = config
        self.num_nodes = num_nodes
        self.meddle = meddle or (lambda instruction, reply: reply)
        self.order = order
        self.sent: list[Message] = []
        self._pending: dict[str, Message] = {}
        self._withheld: set[str] = set()
        self._states: dict[int, RecordDict] = {node: RecordDict() for node in self._nodes()}

    def _nodes(self) -> list[int]:
        return [1000 + number for number in range(self.num_nodes)]

    def get_node_ids(self) -> Iterable[int]:
        return self._nodes()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            key = f"message-{len(self.sent)}"
            message.metadata.__dict__["_message_id"] = key
            self._pending[key] = message
            self.sent.append(message)
            ids.append(key)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        for key in message_ids:
            if key in self._withheld or key not in self._pending or not self._is_next(key):
                continue
            instruction = self._pending[key]
            reply = self.meddle(instruction, self._answer(instruction))
            if reply is None:
                self._withheld.add(key)
                continue
            del self._pending[key]
            yield reply

    def _is_next(self, key: str) -> bool:
        waiting = [k for k in self._pending if k not in self._withheld]
        return key == min(waiting, key=lambda k: self.order(self._pending[k].metadata.dst_node_id - 1000))

    def _answer(self, instruction: Message) -> Message:
        node = instruction.metadata.dst_node_id
        context = Context(
            run_id=1,
            node_id=node,
            node_config={"partition-id": node - 1000, "num-partitions": self.num_nodes},
            state=self._states[node],
            run_config=dict(self.config.to_flat()),
        )
        identity = TaskIdentity.node_id
        TaskIdentity.node_id = node
        try:
            return client_app.app(copy.copy(instruction), context)
        except Exception as error:  # as Flower does: the text travels
            return Message(Error(2, str(error)), reply_to=instruction)
        finally:
            TaskIdentity.node_id = identity

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        raise NotImplementedError("the server takes replies one by one")

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        raise NotImplementedError

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        raise NotImplementedError

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [NodeInfo(node_id=node) for node in self._nodes()]


def run_federation(config: RunConfig, num_nodes: int, **grid: Any) -> LocalGrid:
    """Run the real server on a local grid and return the grid."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    local = LocalGrid(config, num_nodes, **grid)
    options: Mapping[str, Any] = config.to_flat()
    server.run(local, Context(1, 1, {}, RecordDict(), dict(options)))
    return local
