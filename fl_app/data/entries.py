"""The class, part and patient of each file of a folder, from class folders or from a table."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fl_app.data.label_table import find_table, read_table
from fl_app.data.listing import (
    IMAGE_SUFFIXES,
    KINDS,
    PART_NAMES,
    Part,
    composed,
    files_below,
    is_image,
    resolve_inside,
    visible,
)
from fl_app.errors import DataError


@dataclass(frozen=True)
class Entry:
    """One file.

    Attributes:
        path: the file; if a table names it, it need not exist.
        class_name: its label.
        part: of the data set; `train` if none is stated.
        patient: who is in the image; empty if not stated. It never leaves the node.
    """

    path: Path
    class_name: str
    part: Part
    patient: str = ""


@dataclass(frozen=True)
class Listing:
    """All files of a folder.

    Attributes:
        layout: the form of the labels.
        class_names: the classes of the folder, sorted; a class folder may be empty.
        entries: one for each file, in a fixed order.
    """

    layout: Literal["class folders", "table"]
    class_names: tuple[str, ...]
    entries: tuple[Entry, ...]


def list_entries(directory: Path, class_names: Sequence[str] = ()) -> Listing:
    """List a folder by its table, `labels.csv` or the only other CSV file, else by its class folders.

    Args:
        directory: the hospital's folder.
        class_names: the agreed ones, others are rejected; empty: all that are found.

    Raises:
        DataError: the folder is missing, or holds something that is not allowed there.
    """
    table = find_table(directory)
    if table is not None:
        rows = read_table(table)
        for row in rows:
            if class_names and row.label not in class_names:
                raise DataError(
                    f"{table}, line {row.line}: the label '{row.label}' is not a class of this run; "
                    f"{_expected(row.label, class_names)}",
                    public="the table of labels holds a label that is not a class of this run",
                )
        entries = [Entry(row.path, row.label, row.part, row.patient) for row in rows]
        return Listing("table", tuple(sorted({row.label for row in rows})), tuple(entries))
    found = list(_class_folders(directory, class_names))
    names = sorted({composed(folder.name) for _, folder in found})
    return Listing("class folders", tuple(names), tuple(_files(directory, found)))


def no_image(directory: Path, class_names: Iterable[str]) -> DataError:
    """Return the error that a folder holds no image; it says what was expected."""
    names = ", ".join(class_names)
    return DataError(
        f"{directory} holds no image. Expected {KINDS} files in subfolders named {names or 'as the classes'}, "
        "or a table labels.csv with the columns file and label.",
        public="the data folder holds no image",
    )


def _class_folders(directory: Path, class_names: Sequence[str]) -> Iterator[tuple[Part, Path]]:
    """Yield the class folders: those in `train`, `val`, `validation`, `test`, or those at the top of the folder."""
    paths = visible(directory)
    parts = {path: PART_NAMES[path.name.lower()] for path in paths if path.name.lower() in PART_NAMES and path.is_dir()}
    parts = {path: part for path, part in parts.items() if composed(path.name) not in class_names}
    others = [path for path in paths if path not in parts]
    if "train" in parts.values():
        _refuse_loose(directory, others)
    else:
        yield from (("train", path) for path in _check_folders(directory, others, class_names))
    for path, part in parts.items():
        resolve_inside(directory, path)
        yield from ((part, folder) for folder in _check_folders(directory, visible(path), class_names))


def _refuse_loose(directory: Path, paths: Iterable[Path]) -> None:
    """Reject images that lie beside the folder `train`: nobody would notice that they are not used."""
    loose = [path for path in paths if path.is_dir() and any(is_image(file) for file in files_below(path))]
    if loose:
        names = ", ".join(path.name for path in loose)
        raise DataError(
            f"{directory} holds images beside the folder of training images, in: {names}. "
            "Move them into 'train', 'val' or 'test', or out of the data folder.",
            public="folders of images lie beside the folder 'train'",
        )
    for path in paths:
        _refuse_outside(path)


def _check_folders(directory: Path, paths: Iterable[Path], class_names: Sequence[str]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            if class_names and composed(path.name) not in class_names:
                raise DataError(
                    f"{path} is not a class of this run; {_expected(composed(path.name), class_names)}",
                    public="the data folder holds a folder that is not a class of this run",
                )
            resolve_inside(directory, path)
            yield path
        else:
            _refuse_outside(path)


def _refuse_outside(path: Path) -> None:
    if is_image(path):
        raise DataError(
            f"{path} lies outside the class folders. Move it into one of them.",
            public="an image lies outside the class folders",
        )


def _files(directory: Path, folders: Iterable[tuple[Part, Path]]) -> Iterator[Entry]:
    seen: dict[Path, Path] = {}  # what links lead to
    for part, folder in folders:
        real_folder = folder.resolve()
        for path in visible(folder):
            if path.is_dir():
                raise DataError(
                    f"{path} is a folder. Expected only images in the class folder; to keep folders of patients, list "
                    "the images in a table labels.csv.",
                    public="a class folder holds a folder",
                )
            if path.suffix.lower() not in IMAGE_SUFFIXES and not is_image(path):
                raise DataError(
                    f"{path} is no {KINDS} file. Expected nothing else in a class folder.",
                    public=f"a class folder holds something that is no {KINDS} file",
                )
            real = resolve_inside(directory, path) if path.is_symlink() else real_folder / path.name
            if seen.setdefault(real, path) != path:
                raise DataError(
                    f"{path} is the same file as {seen[real]}, by a link. Remove one of them.",
                    public="an image is there twice, by a link",
                )
            yield Entry(path, composed(folder.name), part)


def _expected(name: str, class_names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, [*class_names, *PART_NAMES], n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"its classes are {', '.join(class_names)}.{hint}"
