"""What a hospital's folder holds, told to the hospital's own people: nothing of it is sent anywhere."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from fl_app.data.decoding import UnreadableImageError, decode, read_header
from fl_app.data.entries import Entry, list_entries
from fl_app.data.listing import find_images
from fl_app.data.npz import check_labels, classes_and_channels, find_npz, read_arrays
from fl_app.data.parts import PARTS

Layout = Literal["class folders", "table", "npz"]

_FAINT = 16  # the brightness of 4,095: a 16-bit image that only uses 12 of its bits gets no brighter


@dataclass(frozen=True)
class Survey:
    """What was found in a folder. Names of files are relative to it, and stay at the hospital.

    Attributes:
        layout: how labels are given.
        class_counts: readable images of each class; a frame of a DICOM file is an image.
        part_counts: readable images of each part: train, validation, test.
        sizes: readable images of each (width, height) in pixels.
        channels: readable images by number of channels, 1 (grey) or 3 (RGB).
        num_files: files that are labelled, unreadable ones among them; of an npz, its images.
        num_patients: patients that are known by name; None where no image says whom it shows.
        num_patients_on_two_sides: patients with images in more than one of the parts.
        unreadable: file and reason, for each labelled file that is there and cannot be read.
        labels_without_file: files that a table names and that are not there.
        files_without_label: images that lie in the folder and that the table does not name.
        duplicates: groups of files that show the same pixels.
        contradictions: those of the groups whose files have different labels.
        num_faint: 16-bit grey images of which no value reaches 4,096, so that they come out nearly black.
    """

    layout: Layout
    class_counts: Mapping[str, int]
    part_counts: Mapping[str, int]
    sizes: Mapping[tuple[int, int], int]
    channels: Mapping[int, int]
    num_files: int
    num_patients: int | None
    num_patients_on_two_sides: int
    unreadable: tuple[tuple[str, str], ...]
    labels_without_file: tuple[str, ...]
    files_without_label: tuple[str, ...]
    duplicates: tuple[tuple[str, ...], ...]
    contradictions: tuple[tuple[str, ...], ...]
    num_faint: int

    @property
    def num_images(self) -> int:
        """Count the readable images."""
        return sum(self.class_counts.values())

    @property
    def unreadable_share(self) -> float:
        """Return the share of labelled files of all parts that are missing or broken."""
        bad = len(self.unreadable) + len(self.labels_without_file)
        return bad / self.num_files if self.num_files else 0.0


def survey(directory: Path, class_names: Sequence[str] = ()) -> Survey:
    """Look through a folder, read every image, and say what is there.

    Args:
        directory: the hospital's folder; it is only read.
        class_names: the agreed ones, others are refused; empty: whatever is found.

    Raises:
        DataError: the folder is missing, or is of no form that a run could read: see `docs/data.md`.
    """
    npz = find_npz(directory)
    if npz is not None:
        return _survey_npz(npz, class_names)
    listing = list_entries(directory, class_names)
    names = class_names or listing.class_names
    notes = _Notes(dict.fromkeys(names, 0))
    for entry in listing.entries:
        _look_at(entry, entry.path.relative_to(directory).as_posix(), notes)
    others: list[str] = []
    if listing.layout == "table":
        named = {entry.path for entry in listing.entries}
        found, _ = find_images(directory) if listing.entries else ([], 0)
        others = [path.relative_to(directory).as_posix() for path in found if path not in named]
    return notes.finish(listing.layout, len(listing.entries), others)


@dataclass
class _Notes:
    """What is counted on the way through a folder."""

    classes: dict[str, int]
    parts: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    channels: Counter[int] = field(default_factory=Counter)
    patients: dict[str, set[str]] = field(default_factory=dict)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    same: dict[bytes, list[tuple[str, str]]] = field(default_factory=dict)
    num_faint: int = 0

    def add(self, name: str, class_name: str, part: str, pixels: Tensor) -> None:
        """Count the images of a file; `pixels`: [F, C, H, W] uint8."""
        frames, num_channels, height, width = pixels.shape
        self.classes[class_name] += frames
        self.parts[part] += frames
        self.sizes[width, height] += frames
        self.channels[num_channels] += frames
        digest = hashlib.sha256(repr(tuple(pixels.shape)).encode() + pixels.numpy().tobytes()).digest()
        self.same.setdefault(digest, []).append((name, class_name))

    def finish(self, layout: Layout, num_files: int, without_label: Sequence[str]) -> Survey:
        """Put the findings together."""
        groups = [group for group in self.same.values() if len(group) > 1]
        return Survey(
            layout=layout,
            class_counts=self.classes,
            part_counts=dict(self.parts),
            sizes=dict(self.sizes),
            channels=dict(self.channels),
            num_files=num_files,
            num_patients=len(self.patients) or None,
            num_patients_on_two_sides=sum(len(parts) > 1 for parts in self.patients.values()),
            unreadable=tuple(self.unreadable),
            labels_without_file=tuple(self.missing),
            files_without_label=tuple(without_label),
            duplicates=tuple(tuple(name for name, _ in group) for group in groups),
            contradictions=tuple(
                tuple(name for name, _ in group) for group in groups if len({label for _, label in group}) > 1
            ),
            num_faint=self.num_faint,
        )


def _look_at(entry: Entry, name: str, notes: _Notes) -> None:
    if not entry.path.is_file():
        notes.missing.append(name)
        return
    try:
        header = read_header(entry.path)
        pixels = decode(entry.path, header.num_channels)
    except UnreadableImageError as error:
        notes.unreadable.append((name, str(error)))
        return
    patient = entry.patient or header.patient
    if patient:
        notes.patients.setdefault(patient, set()).add(entry.part)
    notes.num_faint += header.is_sixteen_bit and int(pixels.max()) <= _FAINT
    notes.add(name, entry.class_name, entry.part, pixels)


def _survey_npz(path: Path, class_names: Sequence[str]) -> Survey:
    names, _ = classes_and_channels(path)
    names = tuple(class_names) or names
    notes = _Notes(dict.fromkeys(names, 0))
    num_images = 0
    for part in PARTS:
        pixels, labels = read_arrays(path, part)
        check_labels(path, labels, len(names))
        num_images += len(labels)
        for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            shown = torch.from_numpy(image).reshape(1, *image.shape[:2], -1).permute(0, 3, 1, 2)
            notes.add(f"{part}/{number}", names[label], part, shown.contiguous())
    return notes.finish("npz", num_images, [])
