"""The process that outlives a killed `fl-app run`, cleans up after it, and ends."""

import shutil
import sys
from pathlib import Path

from fl_app.simulation.processes import end_processes


def main() -> None:
    """Wait until standard input is closed, then end the run's processes and remove its folder."""
    token, folder = sys.argv[1:]
    sys.stdin.buffer.read()
    end_processes(token)
    shutil.rmtree(Path(folder), ignore_errors=True)


if __name__ == "__main__":
    main()
