"""A grid in this process: it has nodes and takes messages; whoever inherits it makes the replies."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from fl_app.flower import NodeInfo, Run, name_message


class InstantGrid(Grid):
    """What a server needs of Flower's grid, without a network.

    Attributes:
        nodes: ids of the nodes.
        pending: messages that have no reply yet, by their id, in the order in which they were sent.
    """

    def __init__(self, nodes: Iterable[int]) -> None:
        self.nodes = list(nodes)
        self.pending: dict[str, Message] = {}
        self._num_sent = 0

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of the nodes."""
        return list(self.nodes)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Return the nodes."""
        return [NodeInfo(node_id=node) for node in self.nodes]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take messages and return their ids."""
        ids = []
        for message in messages:
            key = f"message-{self._num_sent}"
            self._num_sent += 1
            name_message(message, key)
            self.pending[key] = message
            ids.append(key)
        return ids

    @abstractmethod
    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Make the replies to messages, one at a time."""

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Not used: the server takes replies one by one."""
        raise NotImplementedError("the server takes replies one by one")

    def set_run(self, run: Run) -> None:
        """Not used."""
        raise NotImplementedError

    @property
    def run(self) -> Run:
        """Not used."""
        raise NotImplementedError

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        """Not used."""
        raise NotImplementedError
