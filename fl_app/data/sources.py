"""The data sets that an option can name, and the functions that read them."""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import torch

from fl_app.data import folder, medmnist
from fl_app.data.images import DatasetInfo, ImageSet, Source, no_images
from fl_app.data.listing import PARTS, Part
from fl_app.data.loading import resize
from fl_app.data.partition import share_of_test, stratified_choice
from fl_app.errors import FlAppError
from fl_app.options.images import DataOptions
from fl_app.options.run import RunConfig
from fl_app.plugins import BUILT_IN, load
from fl_app.seeding import numpy_generator_for

log = logging.getLogger(__name__)


def find_source(name: str) -> Source:
    """Return the source of that name; raises OptionError if there is none, or it may not be imported."""
    if name not in BUILT_IN["sources"]:
        medmnist.refuse_unfit(name)
    found: Source = load("sources", name, "data.source", Source)
    return found


def dataset_info(options: DataOptions) -> DatasetInfo:
    """Return classes, channels and image size after resizing; reads no image but headers of the source `folder`.

    Raises:
        OptionError: the source is unknown, unfit, or lacks an option.
        DataError: the source is `folder`, its options leave something open, and the folder cannot be read.
    """
    info = find_source(options.source).info(options)
    return dataclasses.replace(info, image_size=options.image_size or info.image_size)


def stated_info(options: DataOptions) -> DatasetInfo | None:
    """Return the result of `dataset_info`; None if it needs a folder, so that the hospitals' folders decide.

    Raises:
        OptionError: as `dataset_info` does.
    """
    return folder.stated_info(options) if options.source == "folder" else dataset_info(options)


def load_parts(options: DataOptions, seed: int, wanted: Sequence[Part] = PARTS) -> dict[Part, ImageSet]:
    """Read parts of a data set, resized and limited; one that the set does not have is empty.

    Args:
        options: the set, its folder, the size and number of images.
        seed: draws the images that a limit keeps; the parts do not depend on it.
        wanted: the parts; `validation` only together with `train`.

    Raises:
        OptionError: as `dataset_info` does.
        DataError: images are missing or broken.
    """
    info = dataset_info(options)
    found = limited(find_source(options.source).load(options, wanted), options, seed)
    resized = {
        part: dataclasses.replace(images, images=resize(images.images, info.image_size))
        for part, images in found.items()
    }
    return {part: resized.get(part, no_images(info)) for part in wanted}


def load_split(options: DataOptions, split: Literal["train", "test"], seed: int) -> ImageSet:
    """Read one part of a data set: see `load_parts`."""
    return load_parts(options, seed, [split])[split]


def limited(parts: Mapping[Part, ImageSet], options: DataOptions, seed: int) -> dict[Part, ImageSet]:
    """Keep as many training images as the option `limit` says, and the same share of the held-out ones.

    Each class keeps its share; the seed draws the images. The part `test` stays whole.
    """
    train = parts.get("train")
    if train is None or not 0 < options.limit < len(train):
        return dict(parts)
    left = dict(parts) | {"train": _draw(train, options.limit, numpy_generator_for(seed, "limit"))}
    validation = parts.get("validation")
    if validation is not None and len(validation) > 0:
        count = max(round(len(validation) * options.limit / len(train)), 1)
        left["validation"] = _draw(validation, count, numpy_generator_for(seed, "limit", "validation"))
    return left


def _draw(images: ImageSet, count: int, generator: np.random.Generator) -> ImageSet:
    return images.select(torch.from_numpy(stratified_choice(images.labels.numpy(), count, generator)))


class CommonTest:
    """The test set that the nodes of a simulation share: how many images of each class each node measures."""

    def __init__(self, read: Callable[[], ImageSet]) -> None:
        """Take a function that reads the whole test set when it is first needed; it may raise FlAppError or OSError."""
        self._read = read

    @classmethod
    def of_run(cls, config: RunConfig) -> "CommonTest":
        """Return the test part of a run's source; zero images if the run uses none."""
        if config.is_tested:
            return cls(lambda: load_split(config.data, "test", config.seed))
        return cls(lambda: no_images(dataset_info(config.data)))

    def counts(self, number: int, num_shares: int) -> list[int] | None:
        """Count the images of each class in a share; None if the set cannot be read here."""
        if self._images is None:
            return None
        return [int(count) for count in share_of_test(self._images, number, num_shares).class_counts()]

    @cached_property
    def _images(self) -> ImageSet | None:
        try:
            found = self._read()
        except (FlAppError, OSError) as error:
            log.info("The common test set cannot be read here, so the nodes' shares of it are not checked: %s", error)
            return None
        no_pixels = torch.empty((len(found), 1, 0, 0), dtype=torch.uint8)  # labels and patients are enough
        return ImageSet(no_pixels, found.labels, found.class_names, found.patients)
