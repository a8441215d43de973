"""The command `fl-app supernode`: Flower's SuperNode, which ends where it fails, so that it is started again."""

import itertools
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer

from fl_app.cli.doctor import read_node_options
from fl_app.cli.signals import Interrupted
from fl_app.errors import OptionError


def supernode(context: typer.Context) -> None:
    """Start this hospital's node: takes the arguments of `flower-supernode`, and ends where it fails.

    Left alone, flower-supernode leaves the federation when the SuperLink answers with an error that it does not know
    (seen with Flower 1.41: error 500), but its process stays: it looks healthy and takes part in nothing. This one
    ends with status 1, so that systemd or Docker starts it again.
    """
    check_arguments(context.args)
    from flwr.supernode.cli import flower_supernode

    sys.argv = ["flower-supernode", *context.args]
    try:
        flower_supernode()
    except Interrupted:
        raise
    except Exception:
        traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)  # sys.exit would wait for the HTTP server, for ever


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse at once what Flower would show as a traceback, or what would only fail in the first run.

    Raises:
        OptionError: the node's options are malformed or wrong, or the private key is missing.
    """
    if "--help" in arguments or "-h" in arguments:
        return
    node_config = next(_values("--node-config", arguments), "")
    read_node_options(node_config)
    for key in _values("--auth-supernode-private-key", arguments):
        if not Path(key).expanduser().is_file():
            raise OptionError(
                f"--auth-supernode-private-key must name a file, got '{key}'. `fl-app keys <site>` makes a key pair."
            )


def _values(option: str, arguments: Sequence[str]) -> Iterator[str]:
    for word, following in itertools.pairwise([*arguments, ""]):
        if word == option:
            yield following
        elif word.startswith(f"{option}="):
            yield word.partition("=")[2]
