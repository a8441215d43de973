"""The command `fl-app doctor`: is this hospital ready to join? What it prints may be e-mailed."""

import itertools
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fl_app.cli.approvals import ApprovedCode, Study, add_approvals
from fl_app.cli.words import App, AsJson, NodeOptions, Quiet, Recipe, Settings, Voice
from fl_app.errors import FlAppError, OptionError
from fl_app.options.app_files import own_app
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue
from fl_app.plugins import allow_only
from fl_app.simulation.app import code_hash, find_app
from fl_app.simulation.choices import choose_config

if TYPE_CHECKING:
    from fl_app.doctor.finding import Checks, Finding, Verdict
    from fl_app.doctor.network import Address

_WITHOUT_STUDY = ("data.source=folder", "data.image-size=32")  # as the report's first line says
_VERDICTS: tuple["Verdict", ...] = ("ready", "warning", "not ready")  # by exit status


_COLOURS = {"ready": "green", "warning": "yellow", "not ready": "red", "not checked": "bright_black"}
_SUMMARY = {"ready": "Ready", "warning": "Ready, with warnings", "not ready": "Not ready"}


def doctor(
    recipe: Recipe = None,
    node_config: NodeOptions = "",
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


def _approval_checks(config: RunConfig, options: dict[str, OptionValue], has_study: bool) -> "Checks":
    from fl_app.doctor import approvals

    node = NodeConfig.from_flat(options)
    yield "approved code", lambda: approvals.check_code(node, lambda: code_hash(own_app()))
    yield "study", lambda: approvals.check_study(node, config, has_study)
    yield "weights", lambda: approvals.check_weights(node)


def _all_checks(*arguments: Any) -> "Checks":
    """Yield every check with its name; that PyTorch or Flower cannot be imported is a finding, too."""
    from fl_app.doctor.checks import all_checks

    yield from all_checks(*arguments)


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
        raise OptionError(
            """--node-config must be like 'data-path="/data" site="north" min-images=20 check-weights=true': text in """
            f"quotes, numbers, true and false without; got {text!r}."
        ) from None
    node = NodeConfig.from_flat(options)
    if not node.data_path or not node.site:
        raise OptionError("""--node-config must name folder and hospital, such as 'data-path="/data" site="north"'.""")
    return options


def read_address(text: str | None) -> "Address | None":
    """Read HOST:PORT; raises OptionError."""
    from fl_app.doctor.network import parse_address

    return parse_address(text) if text else None


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


@dataclass
class Report:
    """Prints findings as they come, and in the end what follows from them.

    What is ready is folded into one line, unless all of it is asked for.

    Attributes:
        voice: prints; if quiet, only what is not ready.
        site: name of the hospital.
        study: name of the study; None if none was given.
        superlink: HOST:PORT; None if it was not given.
        shows_all: print a line for each check that is ready, too.
        findings: so far.
    """

    voice: Voice
    site: str
    study: str | None
    superlink: str | None
    shows_all: bool
    findings: list["Finding"] = field(default_factory=list)
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()))

    def begin(self) -> None:
        """Name site, date, version and study."""
        study = (
            f"study {self.study}"
            if self.study
            else "no study given: judged by the folder's own classes, at 32 x 32 pixels"
        )
        self._say(f"fl-app {version('fl-app')}, site {self.site}, {self.date}, {study}")

    def add(self, finding: "Finding") -> None:
        """Take a finding, and print it if it is not folded."""
        self.findings.append(finding)
        line = _line(finding.verdict, f"{finding.name}: {finding.text}")
        if self.voice.quiet and finding.verdict == "not ready":
            typer.echo(line, err=True)
        elif self.shows_all or not self._is_folded(finding):
            self._say(line)

    def end(self, verdict: "Verdict") -> None:
        """Print the folded checks, the verdict, and what to do next; or all of it as JSON."""
        ready = [one.name for one in self.findings if self._is_folded(one)]
        if ready and not self.shows_all:
            self._say(_line("ready", f"{', '.join(ready)}. --all tells what was found."))
        concerned = self._names(verdict) if verdict != "ready" else []
        which = f": {', '.join(concerned)}" if concerned else ""
        self._say(f"{_SUMMARY[verdict]}{which}.")
        self._say(f"Next: {self._next(verdict)}")
        self.voice.answer(
            {
                "version": version("fl-app"),
                "site": self.site,
                "date": self.date,
                "study": self.study,
                "verdict": verdict,
                "next": self._next(verdict),
                "checks": [{"name": one.name, "verdict": one.verdict, "text": one.text} for one in self.findings],
            }
        )

    def _next(self, verdict: "Verdict") -> str:
        if verdict == "not ready":
            return "fix what is not ready and run this again; --names names the files, on this screen alone."
        if self.study is None:
            return "run this again with the study's file, which the coordinator sends."
        if self.superlink is None:
            return "run this again with --superlink and --root-certificates, to check the way to the coordinator."
        return (
            "send this to the coordinator, and start the node with the same options: "
            f"fl-app supernode --superlink {self.superlink} --root-certificates … --auth-supernode-private-key … "
            "--node-config …"
        )

    def _is_folded(self, finding: "Finding") -> bool:
        return finding.verdict == "ready" and not finding.is_told

    def _names(self, verdict: str) -> Sequence[str]:
        return [one.name for one in self.findings if one.verdict == verdict]

    def _say(self, line: str) -> None:
        if not self.voice.as_json:
            self.voice.say(line)


def _line(verdict: "Verdict", text: str) -> str:
    return f"{typer.style(f'{verdict:<11}', fg=_COLOURS[verdict])}  {text}"
