"""What a node has on disk: the one place where a simulated node and a hospital differ."""

import dataclasses
import functools
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fl_app.config import DataOptions, NodeConfig, PartitionOptions, RunConfig
from fl_app.data.folder import OwnImages, read_parts
from fl_app.data.images import DatasetInfo, ImageSet
from fl_app.data.partition import partition, split_validation
from fl_app.data.sites import as_site
from fl_app.data.sources import dataset_info, limited, load_split
from fl_app.errors import OptionError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocalData:
    """The images of one node.

    Attributes:
        site: the node's name.
        train: what it trains on; may be empty.
        validation: what it holds out; may be empty.
        num_unreadable: files that it left out because they are missing or broken.
    """

    site: str
    train: ImageSet
    validation: ImageSet
    num_unreadable: int = 0


def site_name(node: NodeConfig) -> str:
    """Return a node's name: the hospital's own, or `site-<partition-id>` in a simulation.

    Raises:
        OptionError: the node is neither a hospital nor a simulated node.
    """
    if node.data_path:
        return _safe_name("Node option 'site'", node.site)
    if node.partition_id is None or node.num_partitions is None:
        raise OptionError(
            "This node has no images: node options 'data-path' and 'site' are missing. "
            """Start it with: fl-app supernode --node-config 'data-path="<folder of images>" site="<name>"'"""
        )
    if node.partition_id >= node.num_partitions:
        raise OptionError(
            f"Node option 'partition-id' must be less than 'num-partitions', {node.num_partitions}, "
            f"got {node.partition_id}."
        )
    return f"site-{node.partition_id}"


def load_local(config: RunConfig, node: NodeConfig) -> LocalData:
    """Read a node's images and hold some of them out.

    Raises:
        OptionError: options of the node or the run do not fit.
        DataError: images are missing or broken.
    """
    site, share = site_name(node), config.data.validation_share
    if not node.data_path:
        return LocalData(site, *split_validation(_of_simulation(config, node), share, config.seed, site))
    found = _of_hospital(config, node)
    train, validation = found.parts["train"], found.parts["validation"]
    if len(validation) == 0:  # the hospital has not split its images itself
        train, validation = split_validation(train, share, config.seed, site)
    if len(validation) == 0 and share > 0 and train.patients is not None:
        log.warning("All images show one patient, so that none can be held out. Is the patient's number right?")
    return LocalData(site, train, validation, found.num_unreadable)


def load_pooled(config: RunConfig, node: NodeConfig) -> LocalData:
    """Read the images of all simulated nodes together, each node's held-out ones still held out.

    Raises:
        OptionError: this is a hospital, which has no images but its own.
        DataError: images are missing or broken.
    """
    if node.partition_id is None or node.num_partitions is None:
        raise OptionError("The baseline 'centralised' pools the images of all nodes: only a simulation can do that.")
    others = [node.model_copy(update={"partition_id": number}) for number in range(node.num_partitions)]
    parts = [load_local(config, as_site(config, other)) for other in others]
    train, validation = _join([part.train for part in parts]), _join([part.validation for part in parts])
    return LocalData(site_name(node), train, validation)


def load_test(config: RunConfig, node: NodeConfig, is_pooled: bool) -> ImageSet:
    """Read a simulated node's share of the public test set, every N-th image; the shares add up to the whole set.

    Args:
        config: of the run.
        node: a hospital has no share, and gets an empty set.
        is_pooled: the node stands for all, and gets the whole set.

    Raises:
        DataError: images are missing or broken.
    """
    if node.data_path or config.data.source == "folder":
        info = hospital_info(config, node) if node.data_path else dataset_info(config.data)
        nothing = torch.zeros(0, info.num_channels, info.image_size, info.image_size, dtype=torch.uint8)
        return ImageSet(nothing, torch.zeros(0, dtype=torch.int64), info.class_names)
    images = _test_set(config.data, config.seed, os.environ.get("FL_APP_DATA", ""))
    if is_pooled:
        return images
    assert node.partition_id is not None and node.num_partitions is not None
    return images.select(torch.arange(node.partition_id, len(images), node.num_partitions))


def hospital_info(config: RunConfig, node: NodeConfig) -> DatasetInfo:
    """Return what the run has agreed on, and what its options leave open as the hospital's folder has it.

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
    return dataset_info(config.data.model_copy(update={"directory": node.data_path}))


def state_folder(node: NodeConfig, run_folder: str, run_name: str) -> Path:
    """Return where a node keeps its optimiser's state between rounds; makes no folder.

    Args:
        node: decides; a hospital never writes where the server says.
        run_folder: the server's run folder, used in a simulation only, where both share a machine.
        run_name: the run's name as the server tells it.

    Raises:
        OptionError: the name of the run or of the site is not fit for a folder.
    """
    run_name, site = _safe_name("The run's name", run_name), site_name(node)
    if node.partition_id is not None:
        return state_base(node, run_folder) / site
    return state_base(node, run_folder) / run_name / site


def state_base(node: NodeConfig, run_folder: str) -> Path:
    """Return the folder of all that a node keeps, of every run; in a simulation, of this run. Makes no folder."""
    if node.partition_id is not None:
        return Path(run_folder) / "nodes"
    return Path(node.state_dir).expanduser() if node.state_dir else Path.home() / "fl-app" / "state"


def _of_hospital(config: RunConfig, node: NodeConfig) -> OwnImages:
    """Read the hospital's folder; the run's source only says which classes, channels and size are agreed."""
    directory = Path(node.data_path).expanduser()
    found = read_parts(directory, hospital_info(config, node), ("train", "validation"), node.max_unreadable_share)
    return dataclasses.replace(
        found, parts=found.parts | {"train": limited(found.parts["train"], config.data, config.seed)}
    )


def _of_simulation(config: RunConfig, node: NodeConfig) -> ImageSet:
    assert node.partition_id is not None and node.num_partitions is not None
    given = os.environ.get("FL_APP_DATA", "")
    parts = _share_out(config.data, config.partition, config.seed, node.num_partitions, given)
    return parts[node.partition_id]


@functools.lru_cache(maxsize=1)
def _share_out(
    data: DataOptions, scheme: PartitionOptions, seed: int, num_nodes: int, given: str
) -> tuple[ImageSet, ...]:
    """Return the images of every simulated node.

    A simulation's worker serves all nodes, one after the other. Reading and sharing out 60,000 images again for each
    message took a second and more; so the worker remembers the last split. `given` is the folder that the environment
    names: another one holds other images.
    """
    images = load_split(data, "train", seed)
    labels, unit_of = images.units()  # all images of a patient go to one node
    parts = partition(labels, num_nodes, scheme, seed)
    return tuple(images.select(torch.from_numpy(np.flatnonzero(np.isin(unit_of, part)))) for part in parts)


@functools.lru_cache(maxsize=1)
def _test_set(data: DataOptions, seed: int, given: str) -> ImageSet:
    """Return the public test set, remembered as `_share_out` remembers the training set."""
    return load_split(data, "test", seed)


def _join(parts: list[ImageSet]) -> ImageSet:
    images, labels = torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts])
    return ImageSet(images, labels, parts[0].class_names)  # each part held patients out already: nothing asks for them


def _safe_name(what: str, name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or name in (".", ".."):
        raise OptionError(f"{what} must consist of letters, digits, '_', '.' or '-', got '{name}'.")
    return name
