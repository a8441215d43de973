"""A simulation of real sites: each folder below the data folder is one of them, under its own name."""

from pathlib import Path

from fl_app.data.files import given_directory
from fl_app.data.listing import visible
from fl_app.errors import DataError, OptionError
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig


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
