"""A grid that hands messages to any ClientApp in this process."""

import copy
from collections.abc import Iterable

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from benchmarks.instant_grid import InstantGrid


class AppGrid(InstantGrid):
    """Nodes 1 to n, each with its number as `partition-id`."""

    def __init__(self, app: ClientApp, num_nodes: int) -> None:
        super().__init__(range(1, num_nodes + 1))
        self.app = app

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Let the app answer; what it raises is an error reply, as in Flower."""
        for key in message_ids:
            instruction = self.pending.pop(key)
            node = instruction.metadata.dst_node_id
            context = Context(1, node, {"partition-id": node - 1}, RecordDict(), {})
            try:
                yield self.app(copy.copy(instruction), context)
            except Exception as error:
                yield Message(Error(2, str(error)), reply_to=instruction)
