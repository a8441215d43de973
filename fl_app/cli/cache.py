"""The command `fl-app cache clear`: delete the decoded images that a node keeps."""

import typer

from fl_app.cli.words import Quiet, StateDir, Voice
from fl_app.errors import DataError

cache = typer.Typer(no_args_is_help=True, help="The decoded images that a node keeps in its state-dir.")


@cache.callback()
def _several() -> None:
    """Keep `clear` a command of its own, although it is the only one."""


@cache.command("clear")
def clear_cache(
    state_dir: StateDir = None,
    quiet: Quiet = False,
) -> None:
    """Delete the decoded images that a node keeps; the next message reads the folder anew."""
    from fl_app.data.image_cache import clear
    from fl_app.node.state import state_base
    from fl_app.options.node import NodeConfig

    folder = state_base(NodeConfig.from_flat({"state-dir": str(state_dir or "")}), "")
    try:
        freed = clear(folder)
    except OSError as error:
        raise DataError(f"The cache in {folder} cannot be deleted: {error.strerror}.") from error
    Voice(quiet).say(f"{folder}: {freed / 1e6:.1f} MB of decoded images deleted.")
