"""What a node has on disk: the one place where a simulated node and a hospital differ."""

import functools
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from fl_app.data.files import given_directory
from fl_app.data.image_cache import info_cached, read_cached
from fl_app.data.images import DatasetInfo, ImageSet, no_images
from fl_app.data.listing import PARTS, Part, visible
from fl_app.data.partition import partition, share_of_test, split_validation
from fl_app.data.sources import dataset_info, limited, load_parts
from fl_app.errors import DataError, OptionError
from fl_app.options.node import NodeConfig
from fl_app.options.run import DataOptions, PartitionOptions, RunConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocalData:
    """The images of one node.

    Attributes:
        site: the node's name.
        train: what it trains on; may be empty.
        validation: what it holds out, and what heads and temperatures are chosen on; may be empty.
        test: what nothing is chosen on; may be empty.
        test_from: whose test set that is: the node's `share` of a set that is common to all nodes of a simulation, its
            `own` part, or one `drawn` from its training images by `data.test-share`.
        num_unreadable: files that it left out because they are missing or broken.
    """

    site: str
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    test_from: Literal["share", "own", "drawn"] = "own"
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


def as_site(config: RunConfig, node: NodeConfig) -> NodeConfig:
    """Return a simulated node as the hospital whose folder it stands for, where the run's scheme is `sites`.

    It draws the same numbers and computes the same weights as that hospital's own node would. Every other node comes
    back as it is.

    Raises:
        OptionError: there are not as many folders as nodes.
        DataError: the data folder is missing.
    """
    if config.partition.scheme != "sites" or node.partition_id is None or node.num_partitions is None:
        return node
    folders = site_folders(config)
    if len(folders) != node.num_partitions:
        names = ", ".join(folder.name for folder in folders)
        raise OptionError(
            f"Scheme 'sites' needs a node for each folder: there are {len(folders)} ({names}), and "
            f"{node.num_partitions} nodes. Pass --nodes {len(folders)}.",
            public=f"scheme 'sites' finds {len(folders)} folders for {node.num_partitions} nodes",
        )
    folder = folders[node.partition_id]
    own = {"data_path": str(folder), "site": folder.name, "tell_class_names": True}
    return node.model_copy(update=own)


def site_folders(config: RunConfig) -> list[Path]:
    """Return the folders of all sites, by name.

    Raises:
        OptionError: no data folder is named.
        DataError: it is missing, or there is no folder in it.
    """
    directory = given_directory(config.data)
    if directory is None:
        raise OptionError("Scheme 'sites' needs a folder that holds one for each site: set option 'data.directory'.")
    folders = [path for path in visible(directory) if path.is_dir()]
    if not folders:
        raise DataError(f"{directory} holds no folder; scheme 'sites' takes one for each site.")
    return folders


def load_local(config: RunConfig, node: NodeConfig) -> LocalData:
    """Read a node's images: its own parts if it has them, else some are held out, and at a hospital some tested on.

    Raises:
        OptionError: options of the node or the run do not fit.
        DataError: images are missing or broken.
    """
    site, share = site_name(node), config.data.validation_share
    if not node.data_path:
        assert node.partition_id is not None and node.num_partitions is not None
        given, wanted = os.environ.get("FL_APP_DATA", ""), wanted_parts(config)
        simulated = _simulated(config.data, config.partition, config.seed, node.num_partitions, wanted, given)
        train, validation = simulated.nodes[node.partition_id]
        if not simulated.has_validation:
            train, validation = split_validation(train, share, config.seed, site)
        test = share_of_test(simulated.test, node.partition_id, node.num_partitions)
        return LocalData(site, train, validation, test, "share")
    # The run's source only says which classes, channels and size are agreed.
    directory, info = Path(node.data_path).expanduser(), hospital_info(config, node)
    shares = (node.max_unreadable_share, config.data.test_share)
    found = read_cached(*_cache_of(node), directory, info, PARTS, *shares)
    parts = limited(found.parts, config.data, config.seed)
    train, validation = parts["train"], parts["validation"]
    if len(validation) == 0:  # the hospital has not split its images itself
        train, validation = split_validation(train, share, config.seed, site)
    if len(validation) == 0 and share > 0 and train.patients is not None:
        log.warning("All images show one patient, so that none can be held out. Is the patient's number right?")
    test_from: Literal["own", "drawn"] = "drawn" if found.is_test_drawn else "own"
    return LocalData(site, train, validation, parts["test"], test_from, found.num_unreadable)


def load_pooled(config: RunConfig, node: NodeConfig) -> LocalData:
    """Read the images of all simulated nodes together; those held out or tested on at a node still are.

    Raises:
        OptionError: this is a hospital, which has no images but its own.
        DataError: images are missing or broken.
    """
    if node.partition_id is None or node.num_partitions is None:
        raise OptionError("The baseline 'centralised' pools the images of all nodes: only a simulation can do that.")
    others = [node.model_copy(update={"partition_id": number}) for number in range(node.num_partitions)]
    parts = [load_local(config, as_site(config, other)) for other in others]
    joined = (_join([getattr(part, name) for part in parts]) for name in ("train", "validation", "test"))
    train, validation, test = joined
    return LocalData(site_name(node), train, validation, test, parts[0].test_from)


def wanted_parts(config: RunConfig) -> tuple[Part, ...]:
    """Return the parts of a simulation's data set that a run reads: only a classifier is tested."""
    return PARTS if "classification" in config.tasks else ("train", "validation")


def share_out(
    parts: Mapping[Part, ImageSet], num_nodes: int, scheme: PartitionOptions, seed: int
) -> tuple[tuple[ImageSet, ImageSet], ...]:
    """Share training and held-out images out among simulated nodes.

    They are shared out together, then each node's images are divided by the part that they came from: so a node's
    held-out images are skewed as its training images are.

    Args:
        parts: `train` and, perhaps empty, `validation`.
        num_nodes: how many.
        scheme: how.
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
    return info_cached(*_cache_of(node), config.data.model_copy(update={"directory": node.data_path}))


def state_folder(node: NodeConfig, run_folder: str, run_name: str, task: str) -> Path:
    """Return where a node keeps its optimiser's state between rounds; makes no folder.

    Args:
        node: decides; a hospital never writes where the server says.
        run_folder: the server's run folder, used in a simulation only, where both share a machine.
        run_name: the run's name as the server tells it.
        task: the task or baseline as the server tells it.

    Raises:
        OptionError: the name of the run, the site or the task is not fit for a folder.
    """
    run_name, task = _safe_name("The run's name", run_name), _safe_name("The task's name", task)
    base, site = state_base(node, run_folder), site_name(node)
    return base / site / task if _is_in_run_folder(node, run_folder) else base / run_name / site / task


def state_base(node: NodeConfig, run_folder: str) -> Path:
    """Return the folder of all that a node keeps, of every run; in a simulation, of this run. Makes no folder."""
    if _is_in_run_folder(node, run_folder):
        return Path(run_folder) / "nodes"
    return node.state_folder


def _is_in_run_folder(node: NodeConfig, run_folder: str) -> bool:
    """Tell whether the node is simulated and the folder named by the server is a run's, on this machine."""
    return node.partition_id is not None and bool(run_folder) and (Path(run_folder) / "run.json").is_file()


def _cache_of(node: NodeConfig) -> tuple[Path, int]:
    """Return where a node keeps decoded images, and how many bytes of them at most."""
    if node.partition_id is not None:  # a simulation's state is of one run, whose folder is not known here
        return Path(), 0
    return state_base(node, ""), node.max_cache_megabytes * 10**6


@dataclass(frozen=True)
class _Simulated:
    """The images of every simulated node.

    Attributes:
        nodes: training and held-out images of each.
        has_validation: the data set itself says which images are held out.
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

    A simulation's worker serves all nodes, one after the other. Reading and sharing out 60,000 images again for each
    message took a second and more; so the worker remembers the last split. `given` is the folder that the environment
    names: another one holds other images.
    """
    parts = load_parts(data, seed, wanted)
    test = parts.get("test", no_images(dataset_info(data)))
    return _Simulated(share_out(parts, num_nodes, scheme, seed), len(parts["validation"]) > 0, test)


def _join(sets: Sequence[ImageSet]) -> ImageSet:
    """Join sets no two of which show the same patient; patients are numbered anew."""
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


def _safe_name(what: str, name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or name in (".", ".."):
        raise OptionError(
            f"{what} must consist of the letters a to z and A to Z, digits, '_', '.' or '-', got {name!r}."
        )
    return name
