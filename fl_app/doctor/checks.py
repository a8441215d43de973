"""All checks of a hospital, in their order: network, plug-ins, images, machine, and training if it is asked for."""

import time
from functools import partial
from pathlib import Path

from fl_app.data.images import DatasetInfo
from fl_app.doctor import images, installed, machine, network
from fl_app.doctor.finding import Checks, Finding, sentence
from fl_app.doctor.folder import folder_checks
from fl_app.doctor.network import Address
from fl_app.doctor.training import check_step, kept_bytes
from fl_app.node.images import LocalData
from fl_app.node.state import state_base
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue
from fl_app.tasks import build_task


def all_checks(
    config: RunConfig,
    options: dict[str, OptionValue],
    address: Address | None,
    root_certificates: Path | None,
    key: Path | None,
    num_rounds: int,
) -> Checks:
    """Yield every check with its name; one runs before the next is made.

    Args:
        config: of the study.
        options: of the node.
        address: of the SuperLink; None: the network is not checked.
        root_certificates: the coordinator's; None: the system's.
        key: the node's private key.
        num_rounds: to be trained here; 0: none.
    """
    yield from _network_checks(address, root_certificates, key)
    node = NodeConfig.from_flat(options)
    yield "plug-ins", partial(installed.check_plugins, config, node)
    found = images.read_images(config, node)
    info = images.run_info(config, found)
    yield from _image_checks(config, node, found, info)
    yield from _machine_checks(config, node, found, info)
    if num_rounds and info is not None:
        from fl_app.doctor.rehearsal import rehearse

        for name in config.tasks:
            yield f"training of {name}", partial(rehearse, name, config, info, options, num_rounds)


def _network_checks(address: Address | None, root: Path | None, key: Path | None) -> Checks:
    yield "flower here", installed.check_flower_here
    if root is not None:
        yield "authority", lambda: network.check_root_certificates(root, time.time())
    if key is not None:
        yield "key", lambda: installed.check_key(key)
    else:
        yield "key", lambda: Finding("key", "not checked", "Give --auth-supernode-private-key.")
    if address is None:
        yield "port", lambda: Finding("port", "not checked", "Give --superlink and --root-certificates.")
        return
    found = network.visit(address, root.expanduser() if root else None)
    yield "port", lambda: network.check_port(found)
    yield "proxy", lambda: network.check_proxy(address)
    yield "tls", lambda: network.check_tls(found)
    yield "certificate", lambda: network.check_certificate(found, time.time())
    yield "clock", lambda: network.check_clock(found)
    yield "flower there", lambda: installed.check_flower_there(found.flower_version)


def _image_checks(config: RunConfig, node: NodeConfig, found: LocalData | str, info: DatasetInfo | None) -> Checks:
    surveyed = images.survey_folder(config, node)
    if isinstance(surveyed, str):
        path = Path(node.data_path).expanduser()
        what = "a folder" if path.exists() else "it"
        where = "" if path.is_dir() else f" 'data-path' in --node-config must name {what}."
        yield "folder", lambda: Finding("folder", "not ready", f"{sentence(surveyed)}{where}")
    else:
        yield from folder_checks(surveyed, info, node.max_unreadable_share)
    for task in config.tasks:
        yield f"task {task}", partial(images.check_allowed, node, task)
    yield "limits", lambda: images.check_limits(node)
    reading = images.check_reading(found, node)
    if isinstance(found, str) and found == surveyed:
        reading = Finding("reading", "not checked", "The folder is not ready, see above.")
    yield "reading", lambda: reading
    yield "classes", lambda: images.check_classes(found, node.min_class_count)


def _machine_checks(config: RunConfig, node: NodeConfig, found: LocalData | str, info: DatasetInfo | None) -> Checks:
    yield "memory", lambda: machine.check_memory(images.num_bytes(found))
    yield "device", lambda: machine.check_device(node.device)
    tasks = [build_task(name, config, info) for name in config.tasks] if info else []
    kept = sum(
        kept_bytes(plan, task, config.checkpoint_every)
        for plan in config.passes()
        for task in tasks
        if task.name == plan.task
    )
    if images.num_bytes(found) <= node.max_cache_megabytes * 10**6:
        kept += images.num_bytes(found)
    yield "disk", lambda: machine.check_disk(state_base(node, ""), kept)
    device, num_images = machine.device_of(node.device), images.num_training(found)
    for task in tasks:
        assert info is not None
        yield f"step of {task.name}", partial(check_step, task, info, device, num_images, config.federation)
