"""The table of labels: a CSV file of `file,label[,patient][,split]` at the top of a folder."""

import contextlib
import csv
import difflib
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from fl_app.data.listing import PART_NAMES, Part, composed, resolve_inside, visible
from fl_app.errors import DataError

_NAME = "labels.csv"
_REQUIRED = ("file", "label")
_COLUMNS = (*_REQUIRED, "patient", "split")
_DELIMITERS = ",;\t"
_SEPARATOR_LINE = re.compile(r'"?sep=([,;|\t])"?[ \t]*(\r\n|\n|\r)', re.IGNORECASE)  # Excel's first line


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        line: its number in the file, for messages.
        path: the file, inside the folder; it need not exist.
        label: the class's name.
        patient: who is in the image; empty if the table has no such column.
        part: of the image; `train` if the table has no column `split`.
        real: the path with all links resolved.
    """

    line: int
    path: Path
    label: str
    patient: str
    part: Part
    real: str = field(default="", compare=False)


class Places:
    """Finds the files of a folder by their names in a table, whatever links and accents these contain.

    Each subfolder is looked up once.

    Args:
        root: the folder that no name may leave.
    """

    def __init__(self, root: Path) -> None:
        self._real_root = os.path.realpath(root)
        self._folders: dict[str, tuple[str, str]] = {"": (str(root), self._real_root)}
        self._names: dict[str, dict[str, str]] = {}

    def find(self, name: str) -> tuple[Path, str]:
        """Return the path of a file, which need not exist, as it is and with all links resolved.

        Args:
            name: relative to the folder, with slashes or backslashes. Accents may be composed or not.

        Raises:
            ValueError: it leads out of the folder, or is no valid name.
        """
        name = name.replace("\\", "/")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if not parts or "\0" in name or name.startswith("/") or ".." in parts or ":" in parts[0]:
            raise ValueError("outside")
        try:
            path, real = self._step("/".join(parts[:-1]), parts[-1])
        except OSError:  # a name too long
            raise ValueError("outside") from None
        return Path(path), real

    def _step(self, folder_name: str, name: str) -> tuple[str, str]:
        folder, real_folder = self._folder(folder_name)
        if not name.isascii() and not os.path.lexists(f"{folder}/{name}"):  # its accents may be written in another way
            if folder not in self._names:
                self._names[folder] = {}
                with contextlib.suppress(OSError):  # a folder that is missing is empty
                    self._names[folder] = {composed(found): found for found in os.listdir(folder)}
            name = self._names[folder].get(composed(name), name)
        path = f"{folder}/{name}"
        if not os.path.islink(path):
            return path, f"{real_folder}/{path[len(folder) + 1 :]}"
        real = os.path.realpath(path)
        if os.path.islink(real) or os.path.commonpath([real, self._real_root]) != self._real_root:  # a loop, or outside
            raise ValueError("outside")
        return path, real

    def _folder(self, name: str) -> tuple[str, str]:
        if name not in self._folders:
            above, _, last = name.rpartition("/")
            self._folders[name] = self._step(above, last)
        return self._folders[name]


def find_table(directory: Path) -> Path | None:
    """Return a folder's table: `labels.csv`, else the only CSV file at its top, else None.

    Raises:
        DataError: the folder cannot be listed, or holds several CSV files and none of that name; or the table is a link
            that leaves the folder.
    """
    files = [path for path in visible(directory) if path.is_file() or not path.exists()]  # or a link to nowhere
    tables = [path for path in files if path.suffix.lower() == ".csv"]
    named = [path for path in tables if path.name.lower() == _NAME]
    if len(tables) > 1 and not named:
        raise DataError(
            f"{directory} holds {len(tables)} CSV files: {', '.join(path.name for path in tables)}. "
            f"Name the table of labels {_NAME}, or move the others elsewhere.",
            public="the data folder holds several CSV files, and it is not clear which one holds the labels",
        )
    found = next(iter(named or tables), None)
    if found is not None:
        resolve_inside(directory, found)
    return found


def read_table(path: Path) -> list[Row]:
    """Read a table: UTF-8, a header, separated by comma, semicolon or tab; columns of other names are ignored.

    Raises:
        DataError: the table is not as `docs/data.md` describes it; the text names the line.
    """
    lines = _cells(path)
    header_line, header = next(lines, (1, []))
    columns = _find_columns(path, header_line, header)
    places = Places(path.parent)
    rows = [_read_row(path, line, cells, len(header), columns, places) for line, cells in lines]
    seen: dict[str, int] = {}
    for row in rows:
        if row.real in seen:
            _refuse(path, row.line, f"names the same file as line {seen[row.real]}", "names a file twice")
        seen[row.real] = row.line
    _refuse_shared_patients(path, rows)
    return rows


def _cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line that is not blank."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", public="a file cannot be read") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text (byte {error.start}). Save it as 'CSV UTF-8'.",
            public="the table of labels is not UTF-8 text",
        ) from error
    if "\0" in text:  # such as UTF-16 of a Windows program, without the mark at its start
        raise DataError(
            f"{path} is not UTF-8 text: its character {text.index(chr(0))} is zero, as in UTF-16 or damaged files. "
            "Save it as 'CSV UTF-8'.",
            public="the table of labels is not UTF-8 text",
        )
    told = _SEPARATOR_LINE.match(text)
    text = text[told.end() :] if told else text
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = told[1] if told else max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield reader.line_num + (told is not None), stripped
    except csv.Error as error:
        _refuse(path, reader.line_num + (told is not None), f"is not CSV ({error})")


def _find_columns(path: Path, line: int, header: Sequence[str]) -> dict[str, int]:
    """Return the place of each known column."""
    names = [name.lower() for name in header]
    for name in names:
        close = difflib.get_close_matches(name, _COLUMNS, n=1, cutoff=0.75)
        if name not in _COLUMNS and close:  # a patient's column misspelt would silently be no patient's column
            _refuse(path, line, f"has a column '{name}'; is '{close[0]}' meant? Rename it", "has an unclear header")
    repeated = [name for name in _COLUMNS if names.count(name) > 1]
    if repeated:
        _refuse(path, line, f"has several columns '{repeated[0]}'", "has an unclear header")
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        _refuse(
            path,
            line,
            f"has no column {' and no column '.join(map(repr, missing))}. Expected a header such as "
            "file,label,patient,split, the last two where you have them; found " + (", ".join(header) or "nothing"),
            "has no header with the columns file and label",
        )
    return {name: names.index(name) for name in _COLUMNS if name in names}


def _read_row(path: Path, line: int, cells: Sequence[str], width: int, columns: dict[str, int], places: Places) -> Row:
    if len(cells) != width:
        _refuse(path, line, f"has {len(cells)} cells, the header has {width}", "has a line of another length")
    values = {name: cells[place] for name, place in columns.items()}
    empty = [name for name, value in values.items() if not value]
    if empty:
        _refuse(path, line, f"has no {empty[0]}", "has an empty cell")
    split = values.get("split", "train").lower()
    if split not in PART_NAMES:
        _refuse(path, line, f"has the split '{split}'; expected {', '.join(PART_NAMES)}", "has an unknown split")
    try:
        file, real = places.find(values["file"])
    except ValueError:
        _refuse(
            path,
            line,
            f"names the file '{values['file']}'. Expected a path inside the folder, relative to it",
            "names a file outside the data folder",
        )
    return Row(line, file, composed(values["label"]), composed(values.get("patient", "")), PART_NAMES[split], real)


def _refuse_shared_patients(path: Path, rows: Sequence[Row]) -> None:
    """Reject a table with a patient in two parts; the message names lines, but no patient."""
    seen: dict[str, Row] = {}
    for row in rows:
        first = seen.setdefault(row.patient, row)
        if row.patient and first.part != row.part:
            _refuse(
                path,
                row.line,
                f"puts a patient into '{row.part}' whom line {first.line} puts into '{first.part}'. "
                "All images of a patient belong to one part",
                "puts a patient into two parts",
            )


def _refuse(path: Path, line: int, what: str, public: str = "is not CSV") -> NoReturn:
    raise DataError(f"{path}, line {line} {what}.", public=f"the table of labels {public}")
