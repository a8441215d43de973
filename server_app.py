"""Flower's door to `fl_app.server`."""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fl_app import server

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation."""
    server.run(grid, context)
