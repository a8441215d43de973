"""The data sets that an option can name, and the functions that read them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch

from fl_app.data import folder, medmnist
from fl_app.data.images import DatasetInfo, ImageSet, no_images
from fl_app.data.parts import PARTS, Part, Source
from fl_app.data.resizing import resize
from fl_app.data.stratified import stratified_choice
from fl_app.options.run import DataOptions
from fl_app.plugins import BUILT_IN, load
from fl_app.seeding import numpy_generator_for


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
    """Return what `dataset_info` does where no folder is needed for that; else None: the hospitals' folders are to say.

    Raises:
        OptionError: as `dataset_info` does.
    """
    return folder.stated_info(options) if options.source == "folder" else dataset_info(options)


def load_parts(options: DataOptions, seed: int, wanted: Sequence[Part] = PARTS) -> dict[Part, ImageSet]:
    """Read parts of a data set, resized and limited; one that the set does not have is empty.

    Args:
        options: which set, from where, how large, how many.
        seed: draws which images a limit leaves; the parts do not depend on it.
        wanted: which parts; `validation` not without `train`.

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
    """Leave as many training images as the option `limit` says, and the same share of the held-out ones.

    Each class keeps its share; the seed draws which images. The part `test` is left whole.
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
