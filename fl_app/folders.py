"""Folders that only their owner can open."""

import logging
import os
import stat
from pathlib import Path

log = logging.getLogger(__name__)


def make_private(folder: Path) -> None:
    """Make a folder that other users of the machine cannot open (mode 0700), and close one that exists.

    A folder that belongs to somebody else, or to everybody as /tmp does, stays open with a warning.

    Raises:
        OSError: the folder cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if not stat.S_IMODE(found.st_mode) & 0o077:
        return
    if found.st_uid == os.geteuid() and not found.st_mode & stat.S_ISVTX:
        try:
            folder.chmod(0o700)
            return
        except OSError:  # some file systems keep no modes
            pass
    log.warning("Other users of this machine may be able to open %s: choose a folder of your own", folder)
