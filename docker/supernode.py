"""Start Flower's SuperNode so that it ends where it fails, and whatever runs it can start it again.

Left alone, a SuperNode that meets an unexpected answer, such as a SuperLink's error 500, leaves the federation, but its
HTTP server keeps the process: it looks healthy, and takes part in nothing. Seen with Flower 1.41.
"""

import os
import sys
import traceback

from flwr.supernode.cli import flower_supernode


def main() -> None:
    """Run the SuperNode with the arguments of `flower-supernode`; end the whole process with 1 where it fails."""
    try:
        flower_supernode()
    except Exception:
        traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)  # sys.exit would wait for the HTTP server, for ever


if __name__ == "__main__":
    main()
