"""What a SuperLink says, asked with Flower's own command and by the name of a connection."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from fl_app.errors import FlAppError

_TIMEOUT_SECONDS = 60.0


def ask_flower(connection: str, *command: str) -> list[dict[str, Any]]:
    """Return what `flwr <command> <connection> --format json` lists.

    Args:
        connection: a name in Flower's config.toml.
        command: `ls` for runs, `supernode list` for nodes.

    Raises:
        FlAppError: the connection does not exist, or the SuperLink does not answer.
    """
    program = str(Path(sys.executable).parent / "flwr")
    environment = os.environ | {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    try:
        answer = subprocess.run(
            [program, *command, connection, "--format", "json"],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )
        found = json.loads(answer.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise FlAppError(f"`flwr {' '.join(command)} {connection}` gave no answer ({type(error).__name__}).") from None
    if not found.get("success"):
        lines = str(found.get("error-message", "no reason given")).strip().splitlines()
        raise FlAppError(f"Flower's answer about '{connection}': {lines[-1]}")
    return list(found.get("runs") or found.get("nodes") or [])
