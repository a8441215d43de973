"""The test set that the nodes of a simulation have in common: each node measures a share of it."""

import logging
from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch

from fl_app.data.images import ImageSet, no_images
from fl_app.data.sources import dataset_info, load_split
from fl_app.errors import FlAppError
from fl_app.options.run import RunConfig

log = logging.getLogger(__name__)


def share_of_test(test: ImageSet, number: int, num_shares: int) -> ImageSet:
    """Return every `num_shares`-th image, or patient, of a test set; all shares together are the whole set.

    Args:
        test: the whole set.
        number: of the share, in [0, num_shares).
        num_shares: how many nodes measure it.
    """
    _, unit_of = test.units()
    return test.select(torch.from_numpy(np.flatnonzero(unit_of % num_shares == number)))


class CommonTest:
    """Knows how many test images of each class each node of a simulation measures; reads them when first asked."""

    def __init__(self, read: Callable[[], ImageSet]) -> None:
        """Take a function that returns the whole test set; it may raise FlAppError or OSError."""
        self._read = read

    @classmethod
    def of_run(cls, config: RunConfig) -> "CommonTest":
        """Return that of a run: the test part of its source, of which only a classifier makes use."""
        if "classification" in config.tasks:
            return cls(lambda: load_split(config.data, "test", config.seed))
        return cls(lambda: no_images(dataset_info(config.data)))

    def counts(self, number: int, num_shares: int) -> list[int] | None:
        """Return the images of each class of a share; None if the set cannot be read here."""
        if self._images is None:
            return None
        return [int(count) for count in share_of_test(self._images, number, num_shares).class_counts()]

    @cached_property
    def _images(self) -> ImageSet | None:
        try:
            found = self._read()
        except (FlAppError, OSError) as error:
            log.info("The common test set cannot be read here, so that nodes' shares of it are not checked: %s", error)
            return None
        nothing = torch.empty((len(found), 1, 0, 0), dtype=torch.uint8)  # labels and patients are enough
        return ImageSet(nothing, found.labels, found.class_names, found.patients)
