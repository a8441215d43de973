"""The command `fl-app supernode`: Flower's SuperNode, which ends where it fails, so that it is started again."""

import os
import sys
import traceback

import typer

from fl_app.cli.signals import Interrupted


def supernode(context: typer.Context) -> None:
    """Start this hospital's node: takes the arguments of `flower-supernode`, and ends where it fails.

    Left alone, flower-supernode leaves the federation when the SuperLink answers with an error that it does not know
    (seen with Flower 1.41: error 500), but its process stays: it looks healthy and takes part in nothing. This one
    ends with status 1, so that systemd or Docker starts it again.
    """
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
