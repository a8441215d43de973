"""The command line `fl-app`, one module per command; imported only when it is called."""


def main() -> None:
    """Run the command line and leave with its exit status."""
    from fl_app.cli.app import run_command_line

    run_command_line()
