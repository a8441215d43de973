"""Reads a node's images: where simulated nodes and hospitals differ."""

import dataclasses
import functools
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from fl_app.data.files import given_directory
from fl_app.data.image_cache import info_cached, read_cached
from fl_app.data.images import DatasetInfo, ImageSet, no_images
from fl_app.data.listing import PARTS, Part, visible
from fl_app.data.partition import partition, share_of_test, split_validation
from fl_app.data.sources import dataset_info, load_parts
from fl_app.errors import DataError, OptionError
from fl_app.node.split import derived_key, find_key, first_images, hold_out, settle
from fl_app.node.state import key_file, site_name, state_base, used_file
from fl_app.options.images import DataOptions, PartitionOptions
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocalData:
    """The images of one node.

    Attributes:
        site: the node's name.
        train: training images; may be empty.
        validation: held-out images, on which heads and temperatures are chosen; may be empty.
        test: test images, on which nothing is chosen; may be empty.
        test_from: origin of the test set: the node's `share` of a set common to all nodes of a simulation, its `own`
            part, or one `drawn` from its training images by node option `test-share`.
        num_unreadable: files left out because they are missing or broken.
        too_few: parts that are empty because they have fewer images than the node's options allow.
        secret: a hospital's key, if it is one; None: a simulation's key stands for it.
    """

    site: str
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    test_from: Literal["share", "own", "drawn"] = "own"
    num_unreadable: int = 0
    too_few: tuple[Part, ...] = ()
    secret: bytes | None = field(default=None, repr=False)


def as_simulated(config: RunConfig, node: NodeConfig) -> NodeConfig:
    """Return a simulated node with the options that the run states for it; a hospital's node is returned unchanged.

    If the run's scheme is `sites`, it is the hospital that it stands for: it draws the same numbers and computes the
    same weights as that hospital's own node would, with the same key, shares and minimums.

    Raises:
        OptionError: the numbers of folders and nodes differ.
        DataError: the data folder is missing.
    """
    if node.partition_id is None or node.num_partitions is None:
        return node
    data, partition = config.data, config.partition
    stated = {
        "validation_share": data.validation_share,
        "test_share": data.test_share,
        "min_images": partition.min_images,
        "min_held_out": partition.min_held_out,
        "min_class_count": partition.min_class_count,
    }
    own = {name: value for name, value in stated.items() if name not in node.model_fields_set}
    if partition.scheme != "sites":
        return node.model_copy(update=own)
    folders = site_folders(config)
    if len(folders) != node.num_partitions:
        names = ", ".join(folder.name for folder in folders)
        raise OptionError(
            f"Scheme 'sites' needs a node for each folder: there are {len(folders)} ({names}), and "
            f"{node.num_partitions} nodes. Simulate {len(folders)} nodes.",
            public=f"scheme 'sites' finds {len(folders)} folders for {node.num_partitions} nodes",
        )
    folder = folders[node.partition_id]
    return node.model_copy(update=own | {"data_path": str(folder), "site": folder.name, "tell_class_names": True})


def site_folders(config: RunConfig) -> list[Path]:
    """Return the folders of all sites, by name.

    Raises:
        OptionError: no data folder is named.
        DataError: it is missing, or holds no folder.
    """
    directory = given_directory(config.data)
    if directory is None:
        raise OptionError("Scheme 'sites' needs a folder that holds one for each site: set option 'data.directory'.")
    folders = [path for path in visible(directory) if path.is_dir()]
    if not folders:
        raise DataError(f"{directory} holds no folder; scheme 'sites' takes one for each site.")
    return folders


def load_local(config: RunConfig, node: NodeConfig, *, is_trial: bool = False) -> LocalData:
    """Read a node's images; draw held-out images, and a hospital's test images, if the data have no such part.

    A part with fewer images than the node's options allow is empty in the result.

    Args:
        config: options of the run; no split of a hospital's images depends on them.
        node: options of the node.
        is_trial: nothing is written, neither a key nor which images were used.

    Raises:
        OptionError: options of the node or the run do not fit.
        DataError: images are missing or broken.
    """
    node = as_simulated(config, node)
    data = _load_site(config, node, is_trial) if node.has_own_folder else _load_share(config, node)
    return _above_minimums(data, node)


def _load_share(config: RunConfig, node: NodeConfig) -> LocalData:
    site = site_name(node)
    assert node.partition_id is not None and node.num_partitions is not None
    given, wanted = os.environ.get("FL_APP_DATA", ""), wanted_parts(config)
    simulated = _simulated(config.data, config.partition, config.seed, node.num_partitions, wanted, given)
    train, validation = simulated.nodes[node.partition_id]
    if not simulated.has_validation:
        train, validation = split_validation(train, node.validation_share, config.seed, site)
    test = share_of_test(simulated.test, node.partition_id, node.num_partitions)
    return LocalData(site, train, validation, test, "share")


def _load_site(config: RunConfig, node: NodeConfig, is_trial: bool) -> LocalData:
    """Read a hospital's images. The run's source only gives the agreed classes, channels and size."""
    site, directory = site_name(node), Path(node.data_path).expanduser()
    key = derived_key(config.seed, site) if node.is_simulated else find_key(key_file(node), makes=not is_trial)
    found = read_cached(
        *_cache_of(node), directory, hospital_info(config, node), PARTS, node.max_unreadable_share, node.test_share, key
    )
    parts = dict(found.parts)
    if len(parts["validation"]) == 0:  # the hospital has not split its images itself
        tested = node.test_share if found.is_test_drawn or len(parts["test"]) == 0 else 0.0
        parts["train"], parts["validation"] = hold_out(parts["train"], node.validation_share, tested)
    if node.is_simulated:
        parts["train"] = first_images(parts["train"], config.data.limit)
    elif not is_trial:
        parts = settle(parts, used_file(node, directory))
    test_from: Literal["own", "drawn"] = "drawn" if found.is_test_drawn else "own"
    return LocalData(
        site,
        parts["train"],
        parts["validation"],
        parts["test"],
        test_from,
        num_unreadable=found.num_unreadable,
        secret=key if key != derived_key(config.seed, site) else None,
    )


def _above_minimums(data: LocalData, node: NodeConfig) -> LocalData:
    """Empty each part with too few images."""
    fewest: dict[Part, int] = {"train": node.min_images, "validation": node.min_held_out, "test": node.min_held_out}
    too_few = tuple(part for part in PARTS if 0 < len(getattr(data, part)) < fewest[part])
    for part in too_few:
        log.warning(
            "%d images of the part '%s' are not used: by option '%s' it takes at least %d",
            len(getattr(data, part)),
            part,
            "min-images" if part == "train" else "min-held-out",
            fewest[part],
        )
    nothing = torch.empty(0, dtype=torch.int64)
    emptied = {part: getattr(data, part).select(nothing) for part in too_few}
    return dataclasses.replace(data, too_few=too_few, **emptied)


def load_pooled(config: RunConfig, node: NodeConfig) -> LocalData:
    """Read and join the images of all simulated nodes; each keeps its part (training, held-out, test).

    Raises:
        OptionError: the node is a hospital, which has only its own images.
        DataError: images are missing or broken.
    """
    if node.partition_id is None or node.num_partitions is None:
        raise OptionError("The baseline 'centralised' pools the images of all nodes: only a simulation can do that.")
    others = [node.model_copy(update={"partition_id": number}) for number in range(node.num_partitions)]
    parts = [load_local(config, other) for other in others]
    joined = (_join([getattr(part, name) for part in parts]) for name in ("train", "validation", "test"))
    train, validation, test = joined
    return LocalData(site_name(node), train, validation, test, parts[0].test_from)


def wanted_parts(config: RunConfig) -> tuple[Part, ...]:
    """Return the parts of a simulation's data set that a run reads."""
    return PARTS if config.is_tested else ("train", "validation")


def share_out(
    parts: Mapping[Part, ImageSet], num_nodes: int, scheme: PartitionOptions, seed: int
) -> tuple[tuple[ImageSet, ImageSet], ...]:
    """Split training and held-out images among simulated nodes.

    Both parts are split together, then each node's images return to the part that they came from. So a node's held-out
    images are skewed as its training images are.

    Args:
        parts: `train` and, perhaps empty, `validation`.
        num_nodes: number of nodes.
        scheme: how images are split.
        seed: of the run.

    Returns:
        The training and the held-out images of each node.

    Raises:
        OptionError: as `partition` does.
    """
    num_train = len(parts["train"])
    images = _join([parts["train"], parts["validation"]])
    labels, unit_of = images.units()  # all images of a patient go to one node
    found = []
    for units in partition(labels, num_nodes, scheme, seed):
        positions = torch.from_numpy(np.flatnonzero(np.isin(unit_of, units)))
        is_train = positions < num_train
        found.append((images.select(positions[is_train]), images.select(positions[~is_train])))
    return tuple(found)


def hospital_info(config: RunConfig, node: NodeConfig) -> DatasetInfo:
    """Return the run's classes, channels and size; what its options leave open is read from the hospital's folder.

    Raises:
        OptionError: as `dataset_info` does.
        DataError: the folder cannot be read.
    """
    if config.data.source != "folder":
        return dataset_info(config.data)
    if not config.data.class_names and not node.tell_class_names:  # they are names of folders: perhaps of patients
        raise OptionError(
            "The run states no classes, and this hospital does not tell the names of its own. State them in option "
            "'data.class-names', or set node option 'tell-class-names' to true."
        )
    return info_cached(*_cache_of(node), config.data.model_copy(update={"directory": node.data_path}))


def _cache_of(node: NodeConfig) -> tuple[Path, int]:
    """Return the folder of a node's decoded images, and their limit in bytes."""
    if node.is_simulated:  # a simulation's state belongs to one run, whose folder is not known here
        return Path(), 0
    return state_base(node, ""), node.max_cache_megabytes * 10**6


@dataclass(frozen=True)
class _Simulated:
    """The images of every simulated node.

    Attributes:
        nodes: training and held-out images of each.
        has_validation: the data set has a held-out part of its own.
        test: the common test set.
    """

    nodes: tuple[tuple[ImageSet, ImageSet], ...]
    has_validation: bool
    test: ImageSet


@functools.lru_cache(maxsize=1)
def _simulated(
    data: DataOptions, scheme: PartitionOptions, seed: int, num_nodes: int, wanted: tuple[Part, ...], given: str
) -> _Simulated:
    """Return the images of every simulated node.

    A simulation's worker serves all nodes in turn. Reading and splitting 60,000 images for each message took a second
    and more, so the worker caches the last split. `given`, the folder that the environment names, is part of the key.
    """
    parts = load_parts(data, seed, wanted)
    test = parts.get("test", no_images(dataset_info(data)))
    return _Simulated(share_out(parts, num_nodes, scheme, seed), len(parts["validation"]) > 0, test)


def _join(sets: Sequence[ImageSet]) -> ImageSet:
    """Join sets that share no patient; renumber the patients."""
    images, labels = torch.cat([one.images for one in sets]), torch.cat([one.labels for one in sets])
    patients, num_known = None, 0
    if any(one.patients is not None for one in sets):
        numbers = []
        for one in sets:
            units, unit_of = one.units()
            numbers.append(torch.from_numpy(unit_of) + num_known)
            num_known += len(units)
        patients = torch.cat(numbers)
    return ImageSet(images, labels, sets[0].class_names, patients)
