"""The federations about which sites lie, and which lies each test tells."""

import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from flwr.app import RecordDict

from fl_app.options.sections import OptionValue
from tests.lies.messages import Lie, lies_in
from tests.lies.replay import Federation

_LEARNABLE: dict[str, OptionValue] = {
    "data.limit": 300,
    "classification.epochs": 6.0,
    "classification.learning-rate": 0.003,
    "classification.embedding-size": 16,
}
_HEAD, _ANY_HEAD = re.compile("^(validation|test)/[^/]+/[^/]+/"), r"\1/*/"
SCENARIOS: dict[str, tuple[str, Mapping[str, OptionValue]]] = {
    "classification": ("classification", _LEARNABLE),
    "readings": (
        "classification",
        {**_LEARNABLE, "classification.readings": "consistent,piggyback,local", "classification.choose-by": "auc"},
    ),
    "diffusion": (
        "diffusion",
        {
            "data.limit": 120,
            "diffusion.node-ema": True,
            "diffusion.node-ema-horizon": 0.5,
            "diffusion.ema-horizon": 0.5,
        },
    ),
}


def build(name: str, folder: Path) -> Federation:
    """Return the federation of a scenario, which keeps its files in a folder."""
    return Federation(folder, *SCENARIOS[name])


def group(field: str) -> str:
    """Return what a field has in common with others: all weights, and the same sum of every head."""
    record, _, key = field.partition("/")
    if record in ("weights", "node-ema"):
        return f"{record}/*"
    return f"{record}/{_HEAD.sub(_ANY_HEAD, key)}" if key else record


def chosen_lies(kind: str, content: RecordDict, fields: set[str], number: int, seed: int) -> Iterator[Lie]:
    """Yield some lies about each field of a message, and some about the message as a whole, always the same ones.

    Args:
        kind: of the message.
        content: what an honest site sends.
        fields: to lie about.
        number: of lies about each.
        seed: of the choice.
    """
    lies: dict[str, list[Lie]] = {}
    for lie in lies_in(kind, content, lambda field: field in fields):
        lies.setdefault(lie.field, []).append(lie)
    for field in sorted(lies):
        generator = random.Random(f"{seed} {kind} {field}")
        yield from generator.sample(lies[field], min(number, len(lies[field])))


def one_of_each_group(fields: list[str], seed: int) -> set[str]:
    """Return one field of each group, by a seed."""
    groups: dict[str, list[str]] = {}
    for field in fields:
        groups.setdefault(group(field), []).append(field)
    return {random.Random(f"{seed} {name}").choice(sorted(members)) for name, members in groups.items()}
