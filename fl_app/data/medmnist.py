"""The 2-D, single-label sets of MedMNIST (Yang et al. 2023), each a source by its flag, such as `breastmnist`."""

import io
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from fl_app.data.files import KnownFile, read_known_files
from fl_app.data.images import DatasetInfo, ImageSet, read_by_part
from fl_app.data.listing import PARTS
from fl_app.errors import OptionError
from fl_app.options.images import DataOptions

_SIDE = 28


class _Entry(TypedDict):
    """What is used here of MedMNIST's own description of a set."""

    python_class: str
    MD5: str
    task: str
    label: dict[str, str]
    n_channels: int


def flags() -> list[str]:
    """Return the flags that are sources: one label an image, two dimensions."""
    return [flag for flag, entry in _entries().items() if not _objection(flag, entry)]


def refuse_unfit(flag: str) -> None:
    """Raise OptionError, with the reason, if a flag exists but is no source."""
    entry = _entries().get(flag)
    reason = _objection(flag, entry) if entry else ""
    if reason:
        raise OptionError(f"Option 'data.source' must name 2-D images with one label each, got '{flag}', {reason}.")


def info(options: DataOptions) -> DatasetInfo:
    """Return classes, channels and the size before resizing."""
    entry = _entries()[options.source]
    names = sorted(entry["label"].items(), key=lambda item: int(item[0]))
    return DatasetInfo(tuple(name for _, name in names), num_channels=entry["n_channels"], image_size=_SIDE)


def load(options: DataOptions, split: str) -> ImageSet:
    """Read a part of the npz: `train`, `validation` or `test`.

    Raises:
        DataError: as `read_known_files` does.
    """
    flag, entry = options.source, _entries()[options.source]
    place = f"{flag}.npz"

    def download(folder: Path) -> None:
        import medmnist

        (folder / "medmnist").mkdir()
        getattr(medmnist, entry["python_class"])(split="train", root=str(folder / "medmnist"), download=True)

    file = KnownFile((f"medmnist/{place}", place), entry["MD5"])
    (content,) = read_known_files(options, [file], download)
    with np.load(io.BytesIO(content)) as arrays:
        name = "val" if split == "validation" else split
        pixels, labels = arrays[f"{name}_images"], arrays[f"{name}_labels"]
    images = torch.from_numpy(pixels).reshape(len(pixels), _SIDE, _SIDE, -1).permute(0, 3, 1, 2).contiguous()
    return ImageSet(images, torch.from_numpy(labels[:, 0].astype(np.int64)), info(options).class_names)


def _entries() -> dict[str, _Entry]:
    from medmnist.info import INFO  # slow to import, and needed for these sources only

    entries: dict[str, _Entry] = INFO
    return entries


def _objection(flag: str, entry: _Entry) -> str:
    if "multi-label" in entry["task"]:
        return "whose images have several labels each"
    return "which holds volumes" if flag.endswith("3d") else ""


SOURCE = read_by_part(info, load, PARTS)
