"""How images are split: between simulated nodes, into training and held-out images, and into a test part."""

import hashlib
import logging
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fl_app.data.images import ImageSet
from fl_app.errors import OptionError
from fl_app.options.images import PartitionOptions
from fl_app.seeding import numpy_generator_for, seed_for

if TYPE_CHECKING:
    from flwr_datasets.partitioner import Partitioner

Labels = NDArray[np.int64]
Positions = NDArray[np.int64]

log = logging.getLogger(__name__)

_FILLER = -1  # the position of a row that stands for no image
PUBLIC_KEY = b"fl-app test part"  # no secret: without it, other programs that hash the same names draw the same images


def partition(labels: Labels, num_nodes: int, options: PartitionOptions, seed: int) -> list[Positions]:
    """Split images between nodes with the partitioners of Flower Datasets; each image goes to exactly one node.

    The partitioners drop remainders, reject nodes without images, or take images in the order of the file. They get
    arguments that make the result complete, allow empty nodes, and let the seed decide everything.

    Args:
        labels: [N] int64, the label of each image.
        num_nodes: at least 1; a single node gets everything.
        options: the scheme and its parameters.
        seed: the run's seed; no other random state is read or changed.

    Returns:
        One array of ascending positions in [0, N) per node; a node may get none.

    Raises:
        OptionError: there are too few images or classes for so many nodes.
    """
    if num_nodes == 1 or len(labels) == 0:
        return [np.arange(len(labels)), *(np.empty(0, dtype=np.int64) for _ in range(num_nodes - 1))]
    order = numpy_generator_for(seed, "partition").permutation(len(labels))
    parts = _SCHEMES[options.scheme](labels[order], num_nodes, options, seed_for(seed, options.scheme))
    return [np.sort(order[part[part != _FILLER]]) for part in parts]


def split_validation(images: ImageSet, share: float, seed: int, site: str) -> tuple[ImageSet, ImageSet]:
    """Hold out a share of a node's images, the same share of each class as far as numbers allow.

    If patients are known, hold out a share of the patients, each with all images. A patient's class is that of most of
    its images.

    Args:
        images: all images of the node.
        share: of the images or patients, in [0, 1); 0 holds out none. If there are 2 or more, both parts get at least
            one.
        seed: the run's seed.
        site: the node's name; seed and name decide which ones.

    Returns:
        The training images and the held-out images.
    """
    labels, unit_of = images.units()
    count = min(max(round(share * len(labels)), 1), len(labels) - 1) if share > 0 and len(labels) >= 2 else 0
    held_out = stratified_choice(labels, count, numpy_generator_for(seed, site, "validation"))
    is_held_out = torch.from_numpy(np.isin(unit_of, held_out))
    return images.select(torch.nonzero(~is_held_out)[:, 0]), images.select(torch.nonzero(is_held_out)[:, 0])


def share_of_test(test: ImageSet, number: int, num_shares: int) -> ImageSet:
    """Return one node's share of a common test set: every `num_shares`-th image, or patient if patients are known.

    All shares together are the whole set.

    Args:
        test: the whole set.
        number: of the share, in [0, num_shares).
        num_shares: the number of nodes.
    """
    _, unit_of = test.units()
    return test.select(torch.from_numpy(np.flatnonzero(unit_of % num_shares == number)))


def hash_position(pixels: Tensor, patient: str = "", key: bytes = PUBLIC_KEY) -> float:
    """Return a keyed hash of a patient, or of the pixels if there is none, spread evenly over [0, 1).

    So all images of a patient, and all copies of a file, get the same number.

    Args:
        pixels: [F, C, H, W] uint8 as decoded, before the run's size and channels change them.
        patient: name or number in the folder; empty: not known.
        key: at most 64 bytes; a hospital's secret one, so that nobody else can tell where an image lies.
    """
    if patient:
        identity = b"patient\0" + patient.encode("utf-8", "backslashreplace")
    else:
        identity = b"pixels\0" + repr(tuple(pixels.shape)).encode() + b"\0" + pixels.contiguous().numpy().tobytes()
    return int.from_bytes(hashlib.blake2b(identity, digest_size=8, key=key).digest(), "big") / 2**64


def choose_part(positions: Sequence[float], share: float, part: str) -> list[bool]:
    """Tell for each position whether it belongs to a part that is drawn: whether it lies below the share.

    The answer for one does not depend on the others, on a seed or on the order, so a folder that grows keeps its parts.
    The exception: if all of them lie below the share, the part is empty, because training needs images.

    Args:
        positions: from `hash_position`.
        share: of the patients, or of the images of no known patient, in [0, 1).
        part: its name, for the log.
    """
    chosen = [position < share for position in positions]
    if chosen and all(chosen):
        log.warning("All images would fall into the part '%s', so it is empty. Add images or patients.", part)
        return [False] * len(chosen)
    if chosen and share > 0 and not any(chosen):
        log.warning("No image falls into the part '%s', so it is empty. Add images or patients.", part)
    return chosen


def stratified_choice(labels: Labels, count: int, generator: np.random.Generator) -> Positions:
    """Draw `count` positions, the same share of each class, rounded by largest remainder.

    Args:
        labels: [N] int64.
        count: at most N.
        generator: draws the images, and the classes that give one more if remainders are equal.

    Returns:
        [count] int64 positions in [0, N), ascending.
    """
    assert 0 <= count <= len(labels)
    if count == 0:
        return np.empty(0, dtype=np.int64)
    classes, sizes = np.unique(labels, return_counts=True)
    quotas, remainders = np.divmod(sizes * count, len(labels))
    lots = generator.permutation(len(classes))  # without lots, equal remainders would always favour the first classes
    most_left = lots[np.argsort(-remainders[lots], kind="stable")]
    quotas[most_left[: count - quotas.sum()]] += 1
    chosen = [
        generator.choice(np.flatnonzero(labels == label), quota, replace=False)
        for label, quota in zip(classes, quotas, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def _run(partitioner: "Partitioner", keys: Labels, positions: Positions, num_nodes: int) -> list[Positions]:
    """Let a partitioner split rows (key, position); return the positions of each node."""
    from datasets import Dataset

    # In this format a column is an array; in the others Datasets reads it row by row, 12 times slower.
    partitioner.dataset = Dataset.from_dict({"key": keys, "position": positions}).with_format("pandas")
    return [partitioner.load_partition(node)["position"].to_numpy() for node in range(num_nodes)]


def _iid_or_dirichlet(labels: Labels, num_nodes: int, options: PartitionOptions, seed: int) -> list[Positions]:
    """Add fillers, a class of their own behind the others: these partitioners need at least one row per node."""
    from flwr_datasets.partitioner import DirichletPartitioner, IidPartitioner

    num_fillers = max(num_nodes - len(labels), 0)
    keys = np.pad(labels, (0, num_fillers), constant_values=labels.max() + 1)
    positions = np.pad(np.arange(len(labels)), (0, num_fillers), constant_values=_FILLER)
    partitioner: Partitioner = IidPartitioner(num_nodes)  # cuts the rows in their order, which was shuffled before
    if options.scheme == "dirichlet":
        partitioner = DirichletPartitioner(
            num_nodes, "key", alpha=options.alpha, min_partition_size=0, self_balancing=False, seed=seed
        )
    return _run(partitioner, keys, positions, num_nodes)


def _pathological(labels: Labels, num_nodes: int, options: PartitionOptions, seed: int) -> list[Positions]:
    """Give each node `classes-per-node` classes, or more if a class would else have no node.

    The partitioner drops every class that no node drew. So it deals single classes, in turn, to virtual nodes, and each
    node takes several virtual nodes in a row: enough for every class to have its turn. Shuffled labels decide which
    classes come together.
    """
    from flwr_datasets.partitioner import PathologicalPartitioner

    classes, keys = np.unique(labels, return_inverse=True)
    if options.classes_per_node > len(classes):
        raise OptionError(
            f"Option 'partition.classes-per-node' must be at most the number of classes, {len(classes)}, "
            f"got {options.classes_per_node}."
        )
    keys = np.random.default_rng(seed).permutation(len(classes))[keys]
    per_node = max(options.classes_per_node, -(-len(classes) // num_nodes))
    num_virtual = num_nodes * per_node
    # A class needs a row for each of its virtual nodes: fillers, so that small classes can leave nodes without.
    fillers = np.repeat(np.arange(len(classes)), -(-num_virtual // len(classes)))
    partitioner = PathologicalPartitioner(num_virtual, "key", 1, class_assignment_mode="deterministic", seed=seed)
    parts = _run(
        partitioner,
        np.concatenate([keys, fillers]),
        np.concatenate([np.arange(len(labels)), np.full(len(fillers), _FILLER)]),
        num_virtual,
    )
    return [np.concatenate(parts[node * per_node : (node + 1) * per_node]) for node in range(num_nodes)]


def _shard(labels: Labels, num_nodes: int, options: PartitionOptions, seed: int) -> list[Positions]:
    """Sort by label, cut into `shards-per-node` shards a node, deal them out.

    The partitioner makes all shards equal and drops the rest, up to half of a small set. So shards that are one image
    short get a filler. The key is the place in this order, which leaves nothing to the partitioner's own sorting.
    """
    from flwr_datasets.partitioner import ShardPartitioner

    shards = np.array_split(np.argsort(labels, kind="stable"), num_nodes * options.shards_per_node)
    size = len(shards[0])
    positions = np.concatenate([np.pad(shard, (0, size - len(shard)), constant_values=_FILLER) for shard in shards])
    partitioner = ShardPartitioner(
        num_nodes, "key", num_shards_per_partition=options.shards_per_node, shard_size=size, seed=seed
    )
    with warnings.catch_warnings():  # Datasets 4.1 calls pyarrow 25 in the old way when the partitioner sorts
        warnings.filterwarnings("ignore", "Specifying null_placement in SortOptions", FutureWarning)
        return _run(partitioner, np.arange(len(positions)), positions, num_nodes)


def _sizes(labels: Labels, num_nodes: int, options: PartitionOptions, seed: int) -> list[Positions]:
    # Complete as they are: the last, largest node gets what rounding leaves. A node without images is rejected.
    from flwr_datasets.partitioner import ExponentialPartitioner, LinearPartitioner, SquarePartitioner

    partitioners = {"linear": LinearPartitioner, "square": SquarePartitioner, "exponential": ExponentialPartitioner}
    try:
        return _run(partitioners[options.scheme](num_nodes), labels, np.arange(len(labels)), num_nodes)
    except ValueError:
        raise OptionError(
            f"Option 'partition.scheme' {options.scheme!r} leaves a node without images: {num_nodes} nodes share "
            f"{len(labels)}. Take fewer nodes or another scheme."
        ) from None


_SCHEMES: dict[str, Callable[[Labels, int, PartitionOptions, int], list[Positions]]] = {
    "iid": _iid_or_dirichlet,
    "dirichlet": _iid_or_dirichlet,
    "pathological": _pathological,
    "shard": _shard,
    "linear": _sizes,
    "square": _sizes,
    "exponential": _sizes,
}
