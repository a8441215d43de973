"""A federation in one process: real messages through the real apps, without Ray and without a network."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flwr.app import Context, Error, Message, RecordDict

import client_app
from benchmarks.instant_grid import InstantGrid
from fl_app import server
from fl_app.flower import TaskIdentity, identify
from fl_app.options.run import RunConfig

Meddle = Callable[[Message, Message], Message | None]  # (instruction, reply) -> what arrives; None: nothing ever does

_FIRST_NODE = 1000


class LocalGrid(InstantGrid):
    """Calls the real ClientApp when a reply is asked for.

    Args:
        config: options of the run, for the nodes.
        num_nodes: simulated nodes.
        meddle: may replace or withhold a reply.
        order: in which pending replies arrive: a sort key over node numbers.
        node_options: further options of some nodes, by number.
        is_away: tells of a node, by its number and all messages so far, whether it is not connected.

    Attributes:
        sent: all messages so far, in order.
    """

    def __init__(
        self,
        config: RunConfig,
        num_nodes: int,
        meddle: Meddle | None = None,
        order: Callable[[int], int] = lambda node: node,
        node_options: Mapping[int, Mapping[str, Any]] | None = None,
        is_away: Callable[[int, Sequence[Message]], bool] = lambda number, sent: False,
    ) -> None:
        super().__init__(_FIRST_NODE + number for number in range(num_nodes))
        self.config = config
        self.meddle = meddle or (lambda instruction, reply: reply)
        self.order = order
        self.node_options = node_options or {}
        self.is_away = is_away
        self.sent: list[Message] = []
        self._withheld: set[str] = set()
        self._states: dict[int, RecordDict] = {node: RecordDict() for node in self.nodes}

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of the nodes that are connected."""
        return [node for node in self.nodes if not self.is_away(node - _FIRST_NODE, self.sent)]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take messages, remember them, and return their ids."""
        batch = list(messages)
        self.sent += batch
        return super().push_messages(batch)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Let the nodes answer, one at a time and in the given order."""
        for key in message_ids:
            if key in self._withheld or key not in self.pending or not self._is_next(key):
                continue
            instruction = self.pending[key]
            reply = self.meddle(instruction, self._answer(instruction))
            if reply is None:
                self._withheld.add(key)
                continue
            del self.pending[key]
            yield reply

    def _is_next(self, key: str) -> bool:
        waiting = [k for k in self.pending if k not in self._withheld]
        return key == min(waiting, key=lambda k: self.order(self.pending[k].metadata.dst_node_id - _FIRST_NODE))

    def _answer(self, instruction: Message) -> Message:
        node = instruction.metadata.dst_node_id
        context = Context(
            run_id=1,
            node_id=node,
            node_config=self._node_config(node - _FIRST_NODE),
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

    def _node_config(self, number: int) -> dict[str, Any]:
        own = dict(self.node_options.get(number, {}))
        simulated = {"partition-id": number, "num-partitions": len(self.nodes)}
        return own if "data-path" in own else {**simulated, **own}


def run_federation(config: RunConfig, num_nodes: int, **grid: Any) -> LocalGrid:
    """Run the real server on a local grid and return the grid."""
    identify(1, 1)
    local = LocalGrid(config, num_nodes, **grid)
    options: Mapping[str, Any] = config.to_flat()
    server.run(local, Context(1, 1, {}, RecordDict(), dict(options)))
    return local
