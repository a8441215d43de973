"""How one data set is shared out among simulated nodes, and how a node holds images out."""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from fl_app.data.images import ImageSet
from fl_app.data.stratified import stratified_choice
from fl_app.errors import OptionError
from fl_app.options.run import PartitionOptions
from fl_app.seeding import numpy_generator_for, seed_for

if TYPE_CHECKING:
    from flwr_datasets.partitioner import Partitioner

Labels = NDArray[np.int64]
Positions = NDArray[np.int64]

_FILLER = -1  # the position of a row that stands for no image


def partition(labels: Labels, num_nodes: int, options: PartitionOptions, seed: int) -> list[Positions]:
    """Share out images among nodes with the partitioners of Flower Datasets; each image goes to exactly one node.

    Partitioners drop remainders, refuse nodes without images, or take images in the order of the file. What each
    of them is given here makes the result complete, lets nodes be empty, and lets the seed decide on everything.

    Args:
        labels: [N] int64, the label of each image.
        num_nodes: how many nodes, at least 1; the first one gets everything where it is alone.
        options: the scheme and its parameters.
        seed: the run's seed; no other random state is read or changed.

    Returns:
        One array of ascending positions in [0, N) per node; a node may get none.

    Raises:
        OptionError: the scheme cannot share so few images or classes among so many nodes.
    """
    if num_nodes == 1 or len(labels) == 0:
        return [np.arange(len(labels)), *(np.empty(0, dtype=np.int64) for _ in range(num_nodes - 1))]
    order = numpy_generator_for(seed, "partition").permutation(len(labels))
    parts = _SCHEMES[options.scheme](labels[order], num_nodes, options, seed_for(seed, options.scheme))
    return [np.sort(order[part[part != _FILLER]]) for part in parts]


def split_validation(images: ImageSet, share: float, seed: int, site: str) -> tuple[ImageSet, ImageSet]:
    """Hold out a share of a node's images, the same share of each class as far as numbers allow.

    Where patients are known, a share of the patients, each with all images; a patient counts for the class of most of
    them.

    Args:
        images: all that the node has.
        share: of the images or patients, in [0, 1); 0 holds out none. From 2 on, both parts get at least one.
        seed: the run's seed; with `site` it decides which ones.
        site: the node's name.

    Returns:
        What is left for training, and what is held out.
    """
    labels, unit_of = images.units()
    count = min(max(round(share * len(labels)), 1), len(labels) - 1) if share > 0 and len(labels) >= 2 else 0
    held_out = stratified_choice(labels, count, numpy_generator_for(seed, site, "validation"))
    is_held_out = torch.from_numpy(np.isin(unit_of, held_out))
    return images.select(torch.nonzero(~is_held_out)[:, 0]), images.select(torch.nonzero(is_held_out)[:, 0])


def _run(partitioner: "Partitioner", keys: Labels, positions: Positions, num_nodes: int) -> list[Positions]:
    """Let a partitioner share out rows (key, position); return the positions of each node."""
    from datasets import Dataset

    # In this format a column is an array; in the others Datasets reads it row by row, 12 times slower.
    partitioner.dataset = Dataset.from_dict({"key": keys, "position": positions}).with_format("pandas")
    return [partitioner.load_partition(node)["position"].to_numpy() for node in range(num_nodes)]


def _with_fillers(labels: Labels, num_nodes: int) -> tuple[Labels, Positions]:
    """Return rows (key, position), at least one a node; fillers are a class of their own behind the others."""
    num_fillers = max(num_nodes - len(labels), 0)
    keys = np.pad(labels, (0, num_fillers), constant_values=labels.max() + 1)
    return keys, np.pad(np.arange(len(labels)), (0, num_fillers), constant_values=_FILLER)


def _iid(labels: Labels, num_nodes: int, options: PartitionOptions, seed: int) -> list[Positions]:
    # The partitioner cuts the set as it lies (the images have been shuffled before), and wants a row per node.
    from flwr_datasets.partitioner import IidPartitioner

    return _run(IidPartitioner(num_nodes), *_with_fillers(labels, num_nodes), num_nodes)


def _dirichlet(labels: Labels, num_nodes: int, options: PartitionOptions, seed: int) -> list[Positions]:
    # The partitioner wants a row per node.
    from flwr_datasets.partitioner import DirichletPartitioner

    partitioner = DirichletPartitioner(
        num_nodes, "key", alpha=options.alpha, min_partition_size=0, self_balancing=False, seed=seed
    )
    return _run(partitioner, *_with_fillers(labels, num_nodes), num_nodes)


def _pathological(labels: Labels, num_nodes: int, options: PartitionOptions, seed: int) -> list[Positions]:
    """Give each node `classes-per-node` classes, or more where a class would else have no node.

    The partitioner drops every class that no node drew. So it shares out single classes, in turn, to virtual
    nodes, and each node takes several in a row: as many as make every class have its turn. Which classes
    come together follows from shuffled labels.
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

    The partitioner makes all shards equal and drops the rest, up to half of a small set. So shards that come
    out one image short get a filler. The key is the place in this order, which leaves its sorting no choice.
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
    # Complete as they are: what rounding leaves goes to the last, largest node. A node without images is refused.
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
    "iid": _iid,
    "dirichlet": _dirichlet,
    "pathological": _pathological,
    "shard": _shard,
    "linear": _sizes,
    "square": _sizes,
    "exponential": _sizes,
}
