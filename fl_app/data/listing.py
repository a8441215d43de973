"""The files of a folder that count: images by their names, without the litter of file managers; and their parts."""

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from fl_app.errors import DataError

Part = Literal["train", "validation", "test"]

PARTS: tuple[Part, ...] = ("train", "validation", "test")
PART_NAMES: dict[str, Part] = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
DICOM_SUFFIXES = (".dcm", ".dicom")
IMAGE_SUFFIXES = PICTURE_SUFFIXES + DICOM_SUFFIXES
KINDS = "PNG, JPEG, TIFF or DICOM"
_LITTER = {  # left by file managers, archives, disks and network drives, as are names with a dot or ~$ first
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "dicomdir", "__macosx", "lost+found",
    "$recycle.bin", "recycler", "recycled", "system volume information", "lost.dir", "@eadir", "#recycle", "@recycle",
    "#snapshot", "~snapshot", "@recently-snapshot", "network trash folder", "temporary items",
}  # fmt: skip
_RESCUED = re.compile(r"found\.\d{3}", re.IGNORECASE)  # folders that Windows makes of a damaged disk
_DICOM_MARK = b"DICM"  # after 128 bytes of anything
_HEADLESS = re.compile(
    rb"[\x02\x08]\0[\0-\xff]\0([A-Z]{2}|[\0-\xff]{2}\0\0)", re.DOTALL
)  # first tag, with its type or length


def is_dicom(path: Path) -> bool:
    """Tell whether a file is DICOM, by its suffix or, if it has another or none, by its first bytes."""
    suffix = path.suffix.lower()
    if suffix in DICOM_SUFFIXES or suffix in PICTURE_SUFFIXES:
        return suffix in DICOM_SUFFIXES
    if not path.is_file():  # opening a pipe would wait for its writer forever
        return False
    try:
        with path.open("rb") as file:
            start = file.read(132)
            return start[128:] == _DICOM_MARK or _HEADLESS.match(start) is not None
    except OSError:
        return False


def composed(name: str) -> str:
    """Return a name in Unicode's composed form: some systems store a letter and its accent as two characters."""
    return unicodedata.normalize("NFC", name)


def is_image(path: Path) -> bool:
    """Tell whether a path is a file of a supported kind; the file itself may be broken."""
    return path.is_file() and (path.suffix.lower() in PICTURE_SUFFIXES or is_dicom(path))


def visible(folder: Path) -> list[Path]:
    """List a folder in a fixed order, without hidden files and litter.

    Raises:
        DataError: it is missing or a file, or cannot be listed.
    """
    if folder.is_file():
        raise DataError(f"The data folder {folder} is a file, not a folder.", public="the data folder is a file")
    if not folder.is_dir():
        raise DataError(f"The data folder {folder} does not exist.", public="the data folder does not exist")
    try:
        return sorted(path for path in folder.iterdir() if _is_visible(path.name))
    except OSError as error:
        raise _unlisted(error) from error


def find_images(directory: Path) -> tuple[list[Path], int]:
    """Search a folder and its subfolders for images.

    Returns:
        The files, sorted; and the number of other files, hidden ones and litter not counted.

    Raises:
        DataError: a folder cannot be listed, or no image is found.
    """
    files = sorted(files_below(directory))
    found = [path for path in files if is_image(path)]
    if not found:
        raise DataError(
            f"{directory} holds no image. Expected {KINDS} files in it or in its subfolders.",
            public="the data folder holds no image",
        )
    return found, len(files) - len(found)


def files_below(directory: Path) -> Iterator[Path]:
    """Yield the visible files of a folder and of its subfolders; a folder that is a link is not entered.

    Raises:
        DataError: a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:  # os.walk skips folders that it cannot list
        raise _unlisted(error) from error

    for folder, folders, names in os.walk(directory, onerror=refuse):
        folders[:] = filter(_is_visible, folders)
        yield from (Path(folder) / name for name in names if _is_visible(name))


def resolve_inside(directory: Path, path: Path) -> Path:
    """Resolve the links of a path, which must stay inside the folder.

    Raises:
        DataError: it leaves the folder.
    """
    try:
        real = path.resolve()
    except (OSError, RuntimeError):  # a loop of links
        real = Path("/")
    if not real.is_relative_to(directory.resolve()):
        raise DataError(
            f"{path} is a link that leaves the data folder. Expected all files inside it: copy or move them there.",
            public="a link leaves the data folder",
        )
    return real


def _is_visible(name: str) -> bool:
    is_litter = name.lower() in _LITTER or _RESCUED.fullmatch(name) is not None
    return not name.startswith((".", "~$")) and not is_litter


def _unlisted(error: OSError) -> DataError:
    return DataError(
        f"The data folder cannot be listed: {error}. Check who may read it.", public="the data folder cannot be listed"
    )
