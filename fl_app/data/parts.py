"""The parts that images are divided into, and what a data source is: a reader of these parts."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from fl_app.data.images import DatasetInfo, ImageSet
from fl_app.options.run import DataOptions

Part = Literal["train", "validation", "test"]

PARTS: tuple[Part, ...] = ("train", "validation", "test")

PART_NAMES: dict[str, Part] = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}

Load = Callable[[DataOptions, Sequence[Part]], dict[Part, ImageSet]]


class Source(NamedTuple):
    """How to read a data set; a plug-in of the group `fl_app.sources` is one.

    Attributes:
        info: what is known without reading an image; the size is the one before resizing.
        load: read the wanted parts, of any size, in the order of the files and the same ones for every seed; one that
            the set does not have is missing or empty. Raises DataError if images are missing or broken.
    """

    info: Callable[[DataOptions], DatasetInfo]
    load: Load


def read_by_part(
    info: Callable[[DataOptions], DatasetInfo], load: Callable[[DataOptions, str], ImageSet], parts: Sequence[Part]
) -> Source:
    """Return the source of a set that has these parts, each of which is read by itself."""
    return Source(info, lambda options, wanted: {part: load(options, part) for part in wanted if part in parts})
