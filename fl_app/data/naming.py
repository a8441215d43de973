"""Finds the files of images that are known by their keyed hash: a hospital's names of files stay at the hospital."""

from collections.abc import Collection
from pathlib import Path

import torch

from fl_app.data.decoders import read_files
from fl_app.data.entries import list_entries
from fl_app.data.npz import find_npz
from fl_app.data.partition import hash_position
from fl_app.data.unreadable import UnreadableImageError
from fl_app.data.worker import Request


def files_of(directory: Path, positions: Collection[float], num_channels: int, key: bytes) -> dict[float, str]:
    """Return the file of each image, relative to the folder; images that are not found are missing.

    Every file of the folder is decoded. A folder that is an npz has no files of single images: nothing is found.

    Args:
        directory: the hospital's folder.
        positions: of the images, as `ImageSet.positions` holds them in its second column.
        num_channels: of the run's images.
        key: of the hospital.

    Raises:
        DataError: the folder cannot be listed.
    """
    wanted, found = set(positions), dict[float, str]()
    if not wanted or find_npz(directory) is not None:
        return found
    entries = list_entries(directory).entries
    requests = [Request(entry.path, num_channels, wants_own=True) for entry in entries]
    for entry, one in zip(entries, read_files(requests), strict=True):
        if isinstance(one, UnreadableImageError):
            continue
        position = hash_position(torch.from_numpy(one.own), key=key)
        if position in wanted:
            name = entry.path.relative_to(directory) if entry.path.is_relative_to(directory) else entry.path
            found.setdefault(position, str(name))
    return found
