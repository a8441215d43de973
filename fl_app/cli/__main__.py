"""`python -m fl_app.cli` is `fl-app`."""

from fl_app.cli import main

main()
