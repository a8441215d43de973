"""Checks the images of a node before it starts: can a run use the folder at all, and are too many files broken?"""

import random
import time
from collections.abc import Sequence
from pathlib import Path

from fl_app.cli.words import Voice
from fl_app.errors import DataError, OptionError
from fl_app.options.node import NodeConfig

SAMPLING_SECONDS = 3.0  # `fl-app doctor` reads all files, which may take hours


def check_images(node: NodeConfig) -> None:
    """Check the data folder; warn if runs will probably refuse it because too many of its files are broken.

    Raises:
        OptionError: it is missing, in an unknown layout, or without a readable image.
    """
    from fl_app.data.entries import list_entries
    from fl_app.data.npz import classes_and_channels, find_npz

    folder = Path(node.data_path).expanduser()
    if folder.is_file():
        raise OptionError(f"'data-path' in --node-config must name a folder, got the file {folder}.")
    try:
        npz = find_npz(folder)
        if npz is not None:
            classes_and_channels(npz)
        else:
            listing = list_entries(folder)
            files = [entry.path for entry in listing.entries]
            _check_files(folder, files, node.max_unreadable_share, listing.layout == "class folders")
    except DataError as error:
        raise OptionError(f"--node-config names a folder that no run can use. {error}") from None


def _check_files(folder: Path, files: Sequence[Path], max_unreadable_share: float, ignores_reports: bool) -> None:
    """Read files in a drawn order for SAMPLING_SECONDS, or until one of them is an image if that takes longer.

    Raises:
        DataError: no file is an image.
    """
    from fl_app.data.decoders import read_file
    from fl_app.data.unreadable import NoPixelsError, UnreadableImageError
    from fl_app.data.worker import Request

    if not files:
        raise DataError(f"{folder} holds no labelled image.", public="the data folder holds no labelled image")
    faults: dict[Path, str] = {}
    num_read, num_reports = 0, 0
    started = time.monotonic()
    for path in random.Random(0).sample(files, len(files)):
        if num_read > 0 and time.monotonic() - started > SAMPLING_SECONDS:
            break
        try:
            read_file(Request(path))
            num_read += 1
        except UnreadableImageError as error:
            if isinstance(error, NoPixelsError) and ignores_reports:
                num_reports += 1
            faults[path] = str(error)
    if num_read == 0:
        first = next(faults[path] for path in files).rstrip(".")
        raise DataError(
            f"None of the {len(files)} labelled files in {folder} can be read; the first one: {first}. "
            "`fl-app doctor --names` names them all.",
            public="no file of the data folder can be read",
        )
    num_broken = len(faults) - num_reports
    num_tried = num_read + num_broken
    if num_broken / num_tried > max_unreadable_share:
        which = "" if num_tried + num_reports == len(files) else f" drawn from the {len(files):,}"
        Voice().warn(
            f"Warning: of {num_tried:,} labelled files{which} in {folder}, {num_broken:,} cannot be read. A run "
            f"refuses the folder if these are more than {max_unreadable_share:.1%} of all ('max-unreadable-share'). "
            "`fl-app doctor` with this --node-config counts them, and with --names names them."
        )
