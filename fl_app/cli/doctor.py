"""The command `fl-app doctor`: is this hospital ready to join? What it prints may be e-mailed."""

import itertools
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fl_app.cli.approvals import ApprovedCode, Study, add_approvals
from fl_app.cli.report import Report
from fl_app.cli.words import App, AsJson, Quiet, Recipe, Settings, Voice
from fl_app.errors import FlAppError, OptionError
from fl_app.options.app_files import own_app
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue
from fl_app.plugins import allow_only
from fl_app.simulation.app import code_hash, find_app
from fl_app.simulation.choices import choose_config

if TYPE_CHECKING:
    from fl_app.data.images import DatasetInfo
    from fl_app.doctor.finding import Checks, Verdict
    from fl_app.doctor.network import Address
    from fl_app.node.images import LocalData

_WITHOUT_STUDY = ("data.source=folder", "data.image-size=32")  # as the report's first line says
_VERDICTS: tuple["Verdict", ...] = ("ready", "warning", "not ready")  # by exit status


def doctor(
    recipe: Recipe = None,
    node_config: Annotated[
        str, typer.Option(help='The node\'s options, exactly as for fl-app supernode: \'data-path="/data" site="x"\'.')
    ] = "",
    settings: Settings = None,
    superlink: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="The SuperLink to be joined.")] = None,
    root_certificates: Annotated[
        Path | None, typer.Option(help="The coordinator's certificate authority, a PEM file; default: the system's.")
    ] = None,
    key: Annotated[Path | None, typer.Option("--auth-supernode-private-key", help="This node's private key.")] = None,
    approved_code: ApprovedCode = None,
    study: Study = None,
    train: Annotated[int, typer.Option(metavar="N", help="Also train N rounds here, sending nothing.", min=0)] = 0,
    names: Annotated[
        bool, typer.Option("--names", help="Also name the files concerned, on the error stream: these lines stay here.")
    ] = False,
    shows_all: Annotated[
        bool, typer.Option("--all", help="Also tell what was found by each check that is ready.")
    ] = False,
    app: App = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check images, machine and network before joining; without --names the output names no file and no patient.

    Exit status: 0 ready, 1 ready with warnings, 2 not ready.
    """
    from fl_app.doctor.finding import examine_next, exit_status

    try:
        options = add_approvals(read_node_options(node_config), approved_code, study)
        recipe = recipe or str(options.get("study") or "") or None
        has_study = recipe is not None or any(one.strip().startswith("data.") for one in settings or [])
        chosen = [*(settings or []), *(() if has_study else _WITHOUT_STUDY)]
        config = choose_config(find_app(app), recipe, chosen, RunConfig.received)
        address = read_address(superlink)
    except FlAppError as error:  # status 1 would say: ready, with warnings
        raise OptionError(str(error)) from None
    if not has_study:  # nothing leaves this machine: its own classes may be told
        options = {**options, "tell-class-names": True}
    named = (config.recipe if recipe is not None else "of --set") if has_study else None
    report = Report(Voice(quiet, as_json), str(options["site"]), named, superlink, shows_all)
    report.begin()
    log = _log_to(logging.StreamHandler() if names else logging.NullHandler())
    with log, allow_only(NodeConfig.from_flat(options).plugins_allowed, "the node does not allow it."):
        checks = itertools.chain(
            _approval_checks(config, options, has_study),
            _all_checks(config, options, address, root_certificates, key, train),
        )
        while (found := examine_next(checks)) is not None:
            report.add(found)
    status = exit_status(report.findings)
    report.end(_VERDICTS[status])
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


def _approval_checks(config: RunConfig, options: dict[str, OptionValue], has_study: bool) -> "Checks":
    from fl_app.doctor import approvals

    node = NodeConfig.from_flat(options)
    yield "approved code", lambda: approvals.check_code(node, lambda: code_hash(own_app()))
    yield "study", lambda: approvals.check_study(node, config, has_study)


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
        where = "" if Path(node.data_path).expanduser().is_dir() else " 'data-path' in --node-config must name it."
        yield "folder", lambda: Finding("folder", "not ready", f"{sentence(surveyed)}{where}")
    else:
        yield from folder_checks(surveyed, info, node.max_unreadable_share)
    for task in config.tasks:
        yield f"task {task}", partial(images.check_allowed, node, task)
    reading = images.check_reading(found)
    if isinstance(found, str) and found == surveyed:
        reading = Finding("reading", "not checked", "The folder is not ready, see above.")
    yield "reading", lambda: reading
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


class _Once(logging.Filter):
    """Lets each line through once: the folder is read twice, as the survey and as a run does it."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether this line is a new one."""
        line = record.getMessage()
        is_new = line not in self._told
        self._told.add(line)
        return is_new


@contextmanager
def _log_to(handler: logging.Handler) -> Iterator[None]:
    """Send this app's log, which names files, to a handler alone, and warnings nowhere."""
    log = logging.getLogger("fl_app")
    handlers, level, propagates = log.handlers, log.level, log.propagate
    handler.addFilter(_Once())
    handler.setFormatter(logging.Formatter("stays here:  %(message)s"))
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        log.handlers, log.propagate = handlers, propagates
        log.setLevel(level)
