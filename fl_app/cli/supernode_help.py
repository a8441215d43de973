"""What `fl-app supernode --help` prints: the options that a hospital needs, and where Flower's others are listed."""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from fl_app.cli.words import open_console
from fl_app.options.node import NodeConfig
from fl_app.options.sections import describe_section

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
