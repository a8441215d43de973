"""The parts that a hospital may have split its images into, by the names that people give them."""

from typing import Literal

Part = Literal["train", "validation", "test"]

PARTS: tuple[Part, ...] = ("train", "validation", "test")

PART_NAMES: dict[str, Part] = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
