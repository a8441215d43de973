"""The command `fl-app supernode`: Flower's SuperNode, which exits on failure or on a signal."""

import itertools
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import psutil
import typer
from rich.table import Table
from rich.text import Text

from fl_app.cli.approvals import ApprovedCode, Study, add_approvals
from fl_app.cli.doctor import read_node_options
from fl_app.cli.node_connection import check_connection, check_own_port
from fl_app.cli.node_images import check_images
from fl_app.cli.words import open_console
from fl_app.errors import OptionError, did_you_mean
from fl_app.files import make_private
from fl_app.logs import show_log
from fl_app.options.node import NodeConfig
from fl_app.options.sections import describe_section
from fl_app.options.study import read_study

# For Flower to end by itself. After 5 s it ends its process, with status 0; systemd and Docker kill after 90 and 10 s.
PATIENCE_SECONDS = 4.5

_BEFORE = """
Usage: fl-app supernode [OPTIONS]

Start this hospital's node. It joins the coordinator's SuperLink, answers the messages of runs, and ends if it fails, so
that systemd or Docker starts it again. `fl-app doctor` tells beforehand whether everything is ready.
"""

_OPTIONS = (
    ("--superlink HOST:PORT", "address of the coordinator's SuperLink"),
    ("--root-certificates FILE", "the coordinator's ca.crt"),
    ("--auth-supernode-private-key FILE", "this node's private key, which `fl-app keys` makes"),
    ("--approved-code SHA256", "execute this code only, which `fl-app code-hash` prints; may be repeated"),
    ("--study FILE", "take part only in runs with the options of this file, as the coordinator sends it"),
    ("--node-config TEXT", "the node's own options, see below; or a .toml file of them"),
)

_NODE = """
Options of the node, in --node-config, with text in quotes: 'data-path="/data" site="north" min-class-count=5'.
data-path and site are needed. No run can change them.
"""

_AFTER = """
Any other option goes to Flower's SuperNode as it is; `flower-supernode --help` lists those.

Exit status: 2 if an option is wrong or no image can be read, 1 if the node fails, 128 + n after signal n.
"""


def supernode(context: typer.Context, approved_code: ApprovedCode = None, study: Study = None) -> None:
    """Start this hospital's node: takes the arguments of `flower-supernode`, and ends if it fails.

    Left alone, flower-supernode leaves the federation when the SuperLink answers with an error that it does not know
    (seen with error 500), but its process stays: it looks healthy and takes part in nothing. This one ends with
    status 1, so that systemd or Docker starts it again. Told to end (SIGTERM, Ctrl-C), it does so within 10 s.
    """
    if {"-h", "--help"} & set(context.args):
        show_help()
        raise typer.Exit
    arguments = add_to_arguments(context.args, approved_code, study)
    node = check_arguments(arguments)
    from fl_app.flower import check_bundles, read_connection, run_supernode

    connection = read_connection(arguments)
    check_own_port(connection)
    if node.approved_code:
        from fl_app.node.approved_code import fault_of

        show_log()
        check_bundles(lambda bundle: fault_of(bundle, node.approved_code))
    typer.echo(
        f"Connecting to the SuperLink at {connection.superlink}. If that fails again and again, `fl-app doctor "
        f"--superlink {connection.superlink} …` finds the reason.",
        err=True,
    )
    stop_watching = end_when_told()
    try:
        run_supernode(arguments)
    except SystemExit:  # Flower's, with status 0 after a signal
        if signal_number := stop_watching():
            _end(128 + signal_number)
        raise
    except Exception:
        traceback.print_exc()
        _end(1)


def _end(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # sys.exit would wait for the HTTP server, for ever


def add_to_arguments(arguments: Sequence[str], codes: Sequence[str] | None, study: Path | None) -> list[str]:
    """Return Flower's arguments with what the hospital approves as options of the node; unchanged if it names nothing.

    Raises:
        OptionError: the node's options are malformed or wrong.
    """
    if not codes and study is None:
        return list(arguments)
    from fl_app.flower import write_node_config

    options = add_approvals(read_node_options(_node_config(arguments)), codes, study)
    try:
        return [*arguments, "--node-config", write_node_config(options)]  # Flower takes the last one
    except ValueError as error:
        raise OptionError(str(error)) from None


def check_arguments(arguments: Sequence[str]) -> NodeConfig:
    """Refuse at once what Flower would show as a traceback, or what would only fail in the first run.

    Returns:
        The node's options.

    Raises:
        OptionError: an argument is unknown, the node's options are malformed or wrong, or a file or folder that they
            name is missing or cannot be used.
    """
    from fl_app.flower import read_connection

    _check_words(arguments)
    node = NodeConfig.from_flat(read_node_options(_node_config(arguments)))
    if node.study:
        read_study(Path(node.study))
    check_connection(read_connection(arguments))
    check_images(node)
    _check_state_dir(node)
    _check_device(node)
    return node


def _check_words(arguments: Sequence[str]) -> None:
    from fl_app.flower import find_unknown_options

    unknown, known = find_unknown_options(arguments)
    if unknown:
        word = unknown[0].partition("=")[0]
        hint = did_you_mean(word, [*known, "--approved-code", "--study"]) or " `fl-app supernode --help` lists them."
        raise OptionError(f"There is no option '{word}'.{hint}")


def _check_state_dir(node: NodeConfig) -> None:
    """Make the node's own folder, closed to other users; refuse one that is not writable."""
    try:
        make_private(node.state_folder)
        with tempfile.TemporaryFile(dir=node.state_folder):
            pass
    except OSError as error:
        raise OptionError(
            f"The node cannot write to {node.state_folder}: {error.strerror}. Set 'state-dir' in --node-config to a "
            "folder that it can."
        ) from None


def _check_device(node: NodeConfig) -> None:
    """Refuse a GPU that is not there; PyTorch is only imported if one is asked for by name."""
    if node.device == "cuda":
        from fl_app.doctor.machine import check_device

        found = check_device(node.device)
        if found.verdict == "not ready":
            raise OptionError(found.text)


def end_when_told() -> Callable[[], int]:
    """Watch for SIGTERM, SIGINT and SIGQUIT, and end this process and its children if Flower does not.

    Flower's handler joins threads, and was seen to wait forever for one of them. A thread reads what Python's signal
    machinery writes for each signal, whatever the main thread does.

    Returns:
        A function that ends the watch for further signals, and returns the number of the one that came, 0 if none did.
    """
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    ends = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
    received: list[int] = []
    is_read = threading.Event()

    def watch() -> None:
        while (byte := ours.recv(1)) and not ends & {*byte}:
            pass
        received.extend(byte)
        is_read.set()
        if not byte:
            return
        time.sleep(PATIENCE_SECONDS)
        os.write(2, f"Flower's SuperNode did not end within {PATIENCE_SECONDS:g} s of the signal: ended.\n".encode())
        children = psutil.Process().children(recursive=True)
        for child in children:
            child.terminate()
        for child in psutil.wait_procs(children, timeout=1)[1]:
            child.kill()
        os._exit(128 + byte[0])

    def stop_watching() -> int:
        signal.set_wakeup_fd(-1)
        theirs.close()  # the thread has then read all that came
        is_read.wait()
        return sum(received)

    threading.Thread(target=watch, name="end-when-told", daemon=True).start()
    return stop_watching


def _node_config(arguments: Sequence[str]) -> str:
    return ["", *_values("--node-config", arguments)][-1]  # as Flower takes it


def _values(option: str, arguments: Sequence[str]) -> Iterator[str]:
    for word, following in itertools.pairwise([*arguments, ""]):
        if word == option:
            yield following
        elif word.startswith(f"{option}="):
            yield word.partition("=")[2]


def show_help() -> None:
    """Print the help of `fl-app supernode`."""
    defaults = NodeConfig().model_dump(by_alias=True)
    console = open_console()
    console.print(Text(_BEFORE))
    console.print(_table(_OPTIONS))
    console.print(Text(_NODE))
    rows = [(name, text) for name, text in describe_section(NodeConfig) if text]
    console.print(_table([(f"{name}={_written(defaults[name])}", text) for name, text in rows]))
    console.print(Text(_AFTER))


def _table(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 0, 0, 2))
    table.add_column(no_wrap=True)
    for name, text in rows:
        table.add_row(Text(name), Text(text))
    return table


def _written(value: object) -> str:
    """Write a default as --node-config takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else '""' if value == () else str(value)
