"""The data sets that an option can name, and the two functions that read them."""

import dataclasses
import difflib
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch

from fl_app.config import DataOptions
from fl_app.data import digits, folder, medmnist, mnist
from fl_app.data.images import DatasetInfo, ImageSet
from fl_app.data.resizing import resize
from fl_app.data.stratified import stratified_choice
from fl_app.errors import OptionError
from fl_app.seeding import numpy_generator_for

Split = Literal["train", "test"]


class Source(NamedTuple):
    """How to read a data set.

    Attributes:
        info: what is known without reading an image; the size is the one before resizing.
        load: read one part, of any size.
    """

    info: Callable[[DataOptions], DatasetInfo]
    load: Callable[[DataOptions, str], ImageSet]


SOURCES = {
    "digits": Source(digits.info, digits.load),
    "mnist": Source(mnist.info, mnist.load),
    "fashion-mnist": Source(mnist.info, mnist.load),
    "folder": Source(folder.info, folder.load),
}  # and every fit flag of MedMNIST: see `find_source`


def find_source(name: str) -> Source:
    """Return the source of that name; raises OptionError with the closest name where there is none."""
    if name in SOURCES:
        return SOURCES[name]
    medmnist.refuse_unfit(name)
    flags = medmnist.flags()
    if name in flags:
        return Source(medmnist.info, medmnist.load)
    close = difflib.get_close_matches(name, [*SOURCES, *flags], n=1, cutoff=0.0)[0]
    raise OptionError(
        f"Option 'data.source' must be {', '.join(SOURCES)} or a flag of MedMNIST, got '{name}'. "
        f"Did you mean '{close}'?"
    )


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


def load_split(options: DataOptions, split: Split, seed: int) -> ImageSet:
    """Read one part of a data set, resized; of the part `train` no more images than the option `limit` says.

    Args:
        options: which set, from where, how large, how many.
        split: `train` or `test`; the parts do not depend on the seed.
        seed: draws which images a limit leaves.

    Raises:
        OptionError: as `dataset_info` does.
        DataError: images are missing or broken.
    """
    size = dataset_info(options).image_size
    images = find_source(options.source).load(options, split)
    if split == "train":
        images = limited(images, options, seed)
    return dataclasses.replace(images, images=resize(images.images, size))


def limited(images: ImageSet, options: DataOptions, seed: int) -> ImageSet:
    """Return no more images than the option `limit` says, the same share of each class; the seed draws which ones."""
    if not 0 < options.limit < len(images):
        return images
    generator = numpy_generator_for(seed, "limit")
    return images.select(torch.from_numpy(stratified_choice(images.labels.numpy(), options.limit, generator)))
