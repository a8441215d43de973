"""The command `fl-app doctor`: is this hospital ready to join? What it prints may be e-mailed."""

import json
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fl_app.errors import FlAppError, OptionError
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue
from fl_app.plugins import allow_only
from fl_app.simulation.app import find_app
from fl_app.simulation.choices import choose_config

if TYPE_CHECKING:
    from fl_app.data.images import DatasetInfo
    from fl_app.doctor.finding import Checks, Finding
    from fl_app.doctor.network import Address
    from fl_app.node.images import LocalData

_COLOURS = {"ready": "green", "warning": "yellow", "not ready": "red", "not checked": "bright_black"}
_SUMMARY = ("Ready.", "Ready, with warnings.", "Not ready.")


def doctor(
    recipe: Annotated[str | None, typer.Argument(help="The run to join: a name in recipes/, or a TOML file.")] = None,
    node_config: Annotated[
        str, typer.Option(help='The node\'s options, exactly as for fl-app supernode: \'data-path="/data" site="x"\'.')
    ] = "",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override an option of the run.")
    ] = None,
    superlink: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="The SuperLink to be joined.")] = None,
    root_certificates: Annotated[
        Path | None, typer.Option(help="The coordinator's certificate authority, a PEM file; default: the system's.")
    ] = None,
    key: Annotated[Path | None, typer.Option("--auth-supernode-private-key", help="This node's private key.")] = None,
    train: Annotated[int, typer.Option(metavar="N", help="Also train N rounds here, sending nothing.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    names: Annotated[
        bool, typer.Option("--names", help="Also name the files concerned, on the error stream: these lines stay here.")
    ] = False,
    app: Annotated[
        Path | None, typer.Option(help="Folder of the Flower app; default: this one if it is one, else fl-app's own.")
    ] = None,
) -> None:
    """Check images, machine and network before joining; without --names the output names no file and no patient.

    Exit status: 0 ready, 1 ready with warnings, 2 not ready.
    """
    from fl_app.doctor.finding import examine_next, exit_status

    try:
        config = choose_config(find_app(app), recipe, settings or [], RunConfig.received)
        options = read_node_options(node_config)
        address = read_address(superlink)
    except FlAppError as error:  # status 1 would say: ready, with warnings
        raise OptionError(str(error)) from None
    findings = []
    log = _log_to(logging.StreamHandler() if names else logging.NullHandler())
    with log, allow_only(NodeConfig.from_flat(options).plugins_allowed, "the node does not allow it."):
        checks = iter(_all_checks(config, options, address, root_certificates, key, train))
        while (found := examine_next(checks)) is not None:
            findings.append(found)
            if not as_json:
                _show(findings[-1])
    status = exit_status(findings)
    if as_json:
        verdict = ("ready", "warning", "not ready")[status]
        typer.echo(json.dumps({"verdict": verdict, "checks": [vars(one) for one in findings]}, indent=1))
    else:
        typer.echo(_SUMMARY[status])
    raise typer.Exit(status)


def read_node_options(text: str) -> dict[str, OptionValue]:
    """Read `--node-config` as flower-supernode does, and check it.

    Raises:
        OptionError: it is malformed, an option is unknown, or a hospital's options are missing.
    """
    import click

    from fl_app.flower import parse_node_config

    try:
        options: dict[str, OptionValue] = parse_node_config(text)
    except (click.ClickException, OSError, ValueError):
        raise OptionError("""--node-config must be like 'data-path="/data" site="north"': text in quotes.""") from None
    node = NodeConfig.from_flat(options)
    if not node.data_path or not node.site:
        raise OptionError("""--node-config must name folder and hospital, such as 'data-path="/data" site="north"'.""")
    return options


def read_address(text: str | None) -> "Address | None":
    """Read HOST:PORT; raises OptionError."""
    from fl_app.doctor.network import parse_address

    return parse_address(text) if text else None


def _all_checks(
    config: RunConfig,
    options: dict[str, OptionValue],
    address: "Address | None",
    root_certificates: Path | None,
    key: Path | None,
    num_rounds: int,
) -> "Checks":
    """Yield every check with its name; one runs before the next is made."""
    from fl_app.doctor import images
    from fl_app.doctor.installed import check_plugins

    yield from _network_checks(address, root_certificates, key)
    node = NodeConfig.from_flat(options)
    yield "plug-ins", partial(check_plugins, config, node)
    found = images.read_images(config, node)
    info = images.run_info(config, found)
    yield from _image_checks(config, node, found, info)
    yield from _machine_checks(config, node, found, info)
    if num_rounds and info is not None:
        from fl_app.cli.rehearsal import rehearse

        for name in config.tasks:
            yield f"training of {name}", partial(rehearse, name, config, info, options, num_rounds)


def _network_checks(address: "Address | None", root: Path | None, key: Path | None) -> "Checks":
    from fl_app.doctor import installed, network
    from fl_app.doctor.finding import Finding
    from fl_app.doctor.installed import check_key

    yield "flower here", installed.check_flower_here
    if root is not None:
        yield "authority", lambda: network.check_root_certificates(root, time.time())
    if key is not None:
        yield "key", lambda: check_key(key)
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


def _image_checks(
    config: RunConfig, node: NodeConfig, found: "LocalData | str", info: "DatasetInfo | None"
) -> "Checks":
    from fl_app.doctor import images
    from fl_app.doctor.finding import Finding, sentence
    from fl_app.doctor.folder import folder_checks

    surveyed = images.survey_folder(config, node)
    if isinstance(surveyed, str):
        yield "folder", lambda: Finding("folder", "not ready", sentence(surveyed))
    else:
        yield from folder_checks(surveyed, info, node.max_unreadable_share)
    for task in config.tasks:
        yield f"task {task}", partial(images.check_allowed, node, task)
    yield "reading", lambda: images.check_reading(found)
    yield "classes", lambda: images.check_classes(found, node.min_class_count)


def _machine_checks(
    config: RunConfig, node: NodeConfig, found: "LocalData | str", info: "DatasetInfo | None"
) -> "Checks":
    from fl_app.doctor import images, machine
    from fl_app.doctor.training import check_step, kept_bytes
    from fl_app.node.images import state_base
    from fl_app.tasks import build_task

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


@contextmanager
def _log_to(handler: logging.Handler) -> Iterator[None]:
    """Send this app's log, which names files, to a handler alone, and warnings nowhere."""
    log = logging.getLogger("fl_app")
    handlers, level, propagates = log.handlers, log.level, log.propagate
    handler.setFormatter(logging.Formatter("stays here:  %(message)s"))
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        log.handlers, log.propagate = handlers, propagates
        log.setLevel(level)


def _show(finding: "Finding") -> None:
    verdict = typer.style(f"{finding.verdict:<11}", fg=_COLOURS[finding.verdict])
    typer.echo(f"{verdict}  {finding.name}: {finding.text}")
