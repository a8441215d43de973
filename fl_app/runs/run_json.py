"""run.json as typed values; imports nothing heavy, as the command line reads it at once."""

from dataclasses import field

from pydantic.dataclasses import dataclass

from fl_app.files import KEBAB
from fl_app.options.sections import OptionValue


@dataclass(frozen=True, config=KEBAB)
class Agreed:
    """What the hospitals agreed on when the run began."""

    class_names: tuple[str, ...]
    num_channels: int
    image_size: int


@dataclass(frozen=True, config=KEBAB)
class RunDocument:
    """run.json.

    Attributes:
        flower_runs: Flower's ids of the run, one more each time that it was resumed.
        started: when, with the time zone.
        options: every one, by dotted name.
        versions: of the packages that matter.
        nodes: by site, how many images of each class it trains on, holds out and tests on.
    """

    run_name: str
    options: dict[str, OptionValue]
    flower_runs: tuple[str, ...] = ()
    started: str | None = None
    seed: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    agreed: Agreed | None = None
