"""Measuring models on a node's held-out images."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fl_app.data.images import ImageSet
from fl_app.data.loading import place
from fl_app.seeding import generator_for
from fl_app.tasks import Task


def measure(
    task: Task,
    models: Mapping[str, Mapping[str, Tensor]],
    images: ImageSet,
    device: torch.device,
    seed: int,
    site: str,
) -> dict[str, NDArray[np.float64]]:
    """Measure several sets of weights on the same images under the same random draws.

    The draws depend on the seed and the site only, so that figures of different rounds compare.

    Args:
        task: says what is measured.
        models: weights by name, such as `raw` and `ema`.
        images: held-out images; an empty set gives sums of 0.
        device: where to compute.
        seed: of the run.
        site: of the node.

    Returns:
        Additive statistics, their keys prefixed with the model's name and a slash.
    """
    model = task.build_model().to(device)
    placed = place(images, device)
    measured: dict[str, NDArray[np.float64]] = {}
    for name, weights in models.items():
        model.load_state_dict(dict(weights))
        generator = generator_for(seed, site, 0, "validation", device)
        for key, value in task.statistics(model, placed, device, generator).items():
            measured[f"{name}/{key}"] = value
    return measured
