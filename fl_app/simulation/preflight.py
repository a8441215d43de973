"""What can be known to fail before Flower starts: images, network, output folder, the run to resume."""

import os
from pathlib import Path

from fl_app.errors import RunFolderError
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig


def check_before_start(config: RunConfig, num_nodes: int, output: Path, resumed: Path | None) -> None:
    """Read the images once, share them out, build the network: what fails at every node fails here, at once.

    Args:
        config: of the run.
        num_nodes: simulated nodes.
        output: where run folders are made.
        resumed: the folder to resume, if one is named.

    Raises:
        FlAppError: with the whole text, names of files included: the images are the user's own.
    """
    _check_writable(output)
    from fl_app.data.sources import dataset_info, load_parts
    from fl_app.node.images import share_out, wanted_parts
    from fl_app.runs.folder import RunFolder
    from fl_app.runs.opening import check_resumable
    from fl_app.tasks import build_task

    if resumed is not None:
        check_resumable(RunFolder(resumed), config)
    if config.partition.scheme == "sites":
        _check_sites(config, num_nodes)
        return
    info = dataset_info(config.data)
    for task in config.tasks:
        build_task(task, config, info).build_model()
    parts = load_parts(config.data, config.seed, wanted_parts(config))
    share_out(parts, num_nodes, config.partition, config.seed)


def _check_sites(config: RunConfig, num_nodes: int) -> None:
    """Read the images of every site, each as its own node will."""
    from fl_app.node.images import as_site, hospital_info, load_local
    from fl_app.tasks import build_task

    for number in range(num_nodes):
        node = as_site(config, NodeConfig.from_flat({"partition-id": number, "num-partitions": num_nodes}))
        info = hospital_info(config, node)
        for task in config.tasks:
            build_task(task, config, info).build_model()
        load_local(config, node)


def _check_writable(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(
            f"No run folder can be made in {output}: {error.strerror}. Choose another --out."
        ) from None
    if not os.access(output, os.W_OK | os.X_OK):
        raise RunFolderError(f"No run folder can be made in {output}: you may not write there. Choose another --out.")
