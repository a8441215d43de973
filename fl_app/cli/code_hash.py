"""The command `fl-app code-hash`: which code a hospital approves."""

import typer

from fl_app.cli.words import App
from fl_app.simulation.app import code_hash, find_app


def show_code_hash(app: App = None) -> None:
    """Print the SHA-256 of the code that `flwr run` submits: what hospitals approve with `supernode --approved-code`.

    It is the same from a checkout and from an installed wheel of one version, and changes with any change of the code.
    """
    typer.echo(code_hash(find_app(app)))
