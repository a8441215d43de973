"""How this app's own nodes are written to and read: each record of arrays travels as a single array."""

from flwr.app import ConfigRecord, Message, RecordDict

from fl_app.messages.arrays import Weights, packed
from fl_app.messages.records import Reply, instruction_config, read_reply, read_statistics
from fl_app.strategies.outcomes import RoundRecord
from fl_app.sums import Statistics


class PackedWire:
    """Writes and reads what `records` spells."""

    def __init__(self, task: str, run_name: str, run_folder: str) -> None:
        self.task = task
        self.run_name = run_name
        self.run_folder = run_folder

    def config(self, round_number: int) -> ConfigRecord:
        """Return the task, the round and the run."""
        return instruction_config(self.task, round_number, self.run_name, self.run_folder)

    def pack(self, content: RecordDict) -> RecordDict:
        """Pack all arrays."""
        return packed(content)

    def read_reply(self, message: Message, site: str, record: RoundRecord, like: Weights, sums: Statistics) -> Reply:
        """Read a reply, which names its own site, task and round."""
        return read_reply(message, like, sums)

    def read_sums(self, content: RecordDict, like: Statistics) -> Statistics:
        """Read additive sums."""
        return read_statistics(content, like)
