"""The message that lets a node draw images of classes that it lacks."""

from collections.abc import Sequence

from flwr.app import ConfigRecord, Message, RecordDict

from fl_app.messages.arrays import Weights, array_record
from fl_app.messages.records import CONFIG, WEIGHTS

DRAW = "query.draw"

_HELD = "held"


def write_draw(asked: ConfigRecord, weights: Weights, held: Sequence[bool]) -> RecordDict:
    """Return the content of the message.

    Args:
        asked: an instruction's config record, of the round after which the diffusion model was exported.
        weights: of that model.
        held: of each class, whether any site has a training image of it; no model can draw the others.
    """
    config = ConfigRecord({**asked, _HELD: [int(flag) for flag in held]})
    return RecordDict({CONFIG: config, WEIGHTS: array_record(weights)})


def read_held(message: Message, num_classes: int) -> list[bool]:
    """Return of each class whether any site has a training image of it; all True if the message does not tell."""
    held = message.content.config_records[CONFIG].get(_HELD)
    if not isinstance(held, list) or len(held) != num_classes:
        return [True] * num_classes
    return [bool(flag) for flag in held]
