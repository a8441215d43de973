"""A set whose balance of classes differs between training and test, as that of a set of chest films does."""

from pathlib import Path

import numpy as np
import torch

from fl_app.data.images import ImageSet
from fl_app.data.sources import load_split
from fl_app.options.run import RunConfig, default_options
from fl_app.seeding import numpy_generator_for

_TRAIN_SHARE, _TEST_SHARE = 0.74, 0.625  # of shirts; so the chest films
_NUM_TRAIN, _NUM_VALIDATION, _NUM_TEST = 700, 100, 1600
_T_SHIRT, _SHIRT = 0, 6  # labels in Fashion-MNIST
_PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def write_tops(folder: Path, seed: int) -> None:
    """Draw T-shirts and shirts from Fashion-MNIST into an npz with the parts train, val and test.

    Args:
        folder: is made.
        seed: draws the images. Training and held-out images come from the data set's training images.
    """
    wanted = RunConfig.from_flat({**default_options(_PYPROJECT), "data.source": "fashion-mnist"}).data
    arrays = _draw(load_split(wanted, "test", seed), {"test": (_NUM_TEST, _TEST_SHARE)}, seed)
    parts = {"train": (_NUM_TRAIN, _TRAIN_SHARE), "val": (_NUM_VALIDATION, _TRAIN_SHARE)}
    arrays |= _draw(load_split(wanted, "train", seed), parts, seed)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "tops.npz", allow_pickle=False, **arrays)


def _draw(images: ImageSet, parts: dict[str, tuple[int, float]], seed: int) -> dict[str, np.ndarray]:
    """Draw parts of so many images and such a share of shirts, none of them twice."""
    labels, generator = images.labels.numpy(), numpy_generator_for(seed, "tops", *parts)
    left = {label: generator.permutation(np.flatnonzero(labels == label)) for label in (_T_SHIRT, _SHIRT)}
    arrays = {}
    for name, (count, share) in parts.items():
        num_shirts = round(count * share)
        chosen = []
        for label, number in ((_T_SHIRT, count - num_shirts), (_SHIRT, num_shirts)):
            chosen.append(left[label][:number])
            left[label] = left[label][number:]
        places = torch.from_numpy(np.concatenate(chosen))
        arrays[f"{name}_images"] = images.images[places, 0].numpy()
        arrays[f"{name}_labels"] = (images.labels[places] == _SHIRT).to(torch.uint8).numpy()
    return arrays
