"""Compares generated images with a node's own real ones, in the features of one network: additive sums."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fl_app.data.images import ImageSet
from fl_app.metrics.generation import feature_sums, kernel_sums, neighbour_sums
from fl_app.sums import Sums

Array = NDArray[np.float64]
Features = Callable[[ImageSet], Array]

KINDS = ("generated", "floor")
IMAGES_PER_FEATURE = 2  # of a hospital's moments: from fewer images than features single images can be computed
_MOST_COMPARED = 5000  # real images of a site in a floor, or whose neighbours are looked up: that time grows squared
_MOST_BY_CLASS = 256  # features of which each class has moments of its own: 2048 of ten classes would be 185 MB


def measure_quality(
    features: Features,
    real: ImageSet,
    train: ImageSet,
    generated: ImageSet,
    neighbours: int,
    per_feature: int = 0,
    fewest: int = 1,
) -> dict[str, Array]:
    """Compare generated images with a node's real test images, and training images with the same ones: the floor.

    Classes are as skewed in the training images of a simulated node as its options say, and in its test images they are
    not. So kernel and neighbours of the floor are of as many training as test images of each class, whichever are
    fewer. The moments are of all of the floor's images: added over the sites, they have the classes of all.

    Args:
        features: returns the features of images, [N, D] float64.
        real: test images; may be empty.
        train: training images; of more than 5,000 as many, evenly spaced. No message decides which: two sums over sets
            that differ by a few images would tell these.
        generated: images of the model.
        neighbours: k of precision, recall, density and coverage.
        per_feature: moments are summed over at least as many images a feature; see `groups_of`. 0: over any number.
        fewest: training and test images from which on kernel and neighbours of the floor are measured.

    Returns:
        `moments/*`, those of `groups_of` the test images, and `floor-moments/*` of the training images, as `moments_of`
        reads them: K + 1 groups, the last one of classes with few images, or of all classes if there are more than 256
        features. For `generated` and `floor`: `<kind>/kernel-*` (`kernel_sums`) and `<kind>/neighbours`
        (`neighbour_sums`). Zeros if there are too few images.
    """
    of_generated = features(generated)
    size, num_classes = of_generated.shape[1], len(real.class_names)
    sums = blank_quality(size, num_classes)
    if len(real) == 0:
        return sums
    floor = evenly_chosen(train, min(1.0, _MOST_COMPARED / max(len(train), 1)))
    of_real, of_floor, of_moments = features(real), features(floor), max(1, per_feature * size)
    sums |= _moments("moments", of_real, real, of_moments)
    sums |= _moments("floor-moments", of_floor, floor, of_moments)
    in_real, in_floor = matched(real.labels, floor.labels)
    some = _even(len(real), min(len(real), _MOST_COMPARED)).numpy()
    pairs = {"generated": (of_real[some], of_generated), "floor": (of_real[in_real], of_floor[in_floor])}
    for kind, (one, other) in pairs.items():
        if len(one) and len(other) and (kind == "generated" or len(one) >= fewest):
            sums |= {f"{kind}/kernel-{key}": value for key, value in kernel_sums(one, other).items()}
            sums[f"{kind}/neighbours"] = neighbour_sums(one, other, neighbours)["counts"]
    return sums


def blank_quality(num_features: int, num_classes: int) -> dict[str, Array]:
    """Return `measure_quality`'s sums for zero images."""
    nothing, labels = np.zeros((0, num_features)), np.zeros(0, dtype=np.int64)
    sums = _packed("moments", feature_sums(nothing, labels, num_groups(num_features, num_classes)))
    sums |= {f"floor-{key}": value for key, value in sums.items()}
    for kind in KINDS:
        sums |= {f"{kind}/kernel-{key}": value for key, value in kernel_sums(nothing, nothing).items()}
        sums[f"{kind}/neighbours"] = neighbour_sums(nothing, nothing)["counts"]
    return sums


def num_groups(num_features: int, num_classes: int) -> int:
    """Return into how many groups of classes moments are summed: K + 1, or 1 if there are many features."""
    return num_classes + 1 if num_features <= _MOST_BY_CLASS else 1


def moments_of(sums: Sums, name: str) -> dict[str, Array]:
    """Return the moments of a name, `moments` or `floor-moments`, as `frechet_distance` takes them."""
    count, total, upper = (sums[f"{name}/{key}"] for key in ("count", "sum", "outer"))
    rows, columns = np.triu_indices(total.shape[1])
    outer = np.zeros((len(count), total.shape[1], total.shape[1]))
    outer[:, rows, columns] = outer[:, columns, rows] = upper
    return {"count": count, "sum": total, "outer": outer}


def group_sums(features: Array, labels: NDArray[np.int64], num_classes: int) -> dict[str, Array]:
    """Return the moments of generated images, [N, D], in the groups of `moments_of`: each class by itself, or all."""
    number = num_groups(features.shape[1], num_classes)
    return feature_sums(features, np.minimum(labels, number - 1), number)


def kernel_of(sums: Sums, kind: str) -> dict[str, Array]:
    """Return a kind's kernel sums, as `kernel_distance` takes them."""
    begin = f"{kind}/kernel-"
    return {key.removeprefix(begin): value for key, value in sums.items() if key.startswith(begin)}


def groups_of(counts: NDArray[np.int64], fewest: int) -> NDArray[np.int64] | None:
    """Return the group in which the images of each class are summed: [K] int64 in [0, K].

    A class with `fewest` images is a group of its own. All others share group K, which must have as many, too: else
    the smallest other class joins it, since its sums could be had by subtraction.

    Returns:
        None if there are too few images for any sums.
    """
    num_classes = len(counts)
    groups = np.where(counts >= fewest, np.arange(num_classes), num_classes)
    while 0 < counts[groups == num_classes].sum() < fewest:
        alone = np.flatnonzero(groups < num_classes)
        if len(alone) == 0:
            return None
        groups[alone[counts[alone].argmin()]] = num_classes
    return groups if counts.sum() >= fewest else None


def evenly_chosen(images: ImageSet, share: float) -> ImageSet:
    """Return a share of the images, evenly spaced in the order of the labels."""
    number = math.ceil(share * len(images))
    return images.select(torch.sort(images.labels, stable=True).indices[_even(len(images), number)])


def matched(one: Tensor, other: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return positions in two sets with equally many of each class, up to 5,000 in all, evenly spaced.

    Args:
        one: labels, [N].
        other: labels, [M].
    """
    found: list[list[NDArray[np.int64]]] = [[np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]]
    classes = torch.unique(one).tolist()
    for label in classes:
        places = [torch.nonzero(labels == label).flatten().cpu() for labels in (one, other)]
        number = min(*map(len, places), _MOST_COMPARED // len(classes))
        for chosen, there in zip(found, places, strict=True):
            chosen.append(there[_even(len(there), number)].numpy())
    return np.concatenate(found[0]), np.concatenate(found[1])


def _even(length: int, number: int) -> Tensor:
    """Return positions in [0, length), evenly spaced: [number] int64."""
    return torch.linspace(0, max(length - 1, 0), number).long()


def _moments(name: str, features: Array, images: ImageSet, fewest: int) -> Mapping[str, Array]:
    labels, num_classes = images.labels.cpu().numpy(), len(images.class_names)
    groups = groups_of(np.bincount(labels, minlength=num_classes), fewest)
    if groups is None:
        return {}
    number = num_groups(features.shape[1], num_classes)
    return _packed(name, feature_sums(features, np.minimum(groups[labels], number - 1), number))


def _packed(name: str, sums: Sums) -> dict[str, Array]:
    """Return moments as they are sent: of a symmetric matrix [D, D] the upper half, [D (D + 1) / 2]."""
    rows, columns = np.triu_indices(sums["outer"].shape[1])
    packed = {**sums, "outer": sums["outer"][:, rows, columns]}
    return {f"{name}/{key}": np.asarray(value) for key, value in packed.items()}
