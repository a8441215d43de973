"""Programs for those who work on fl-app: `python -m tools.<name> --help`."""
