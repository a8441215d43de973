"""What a hospital's folder holds, told to the hospital's own people: nothing of it is sent anywhere."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from fl_app.data.decoding import Picture
from fl_app.data.entries import Entry, list_entries
from fl_app.data.listing import find_images
from fl_app.data.npz import check_labels, classes_and_channels, find_npz, open_part
from fl_app.data.parts import PARTS
from fl_app.data.pool import Request, read_files
from fl_app.data.unreadable import NoPixelsError, UnreadableImageError

Layout = Literal["class folders", "table", "npz"]

_FAINT = 16  # of 255: the brightness of 4,095 in 16 bits, beyond which an image with 12 bits does not get
_PIXELS_A_SPECK = 1_000  # so many may have a brighter one, or an image one: defects and marks are no picture


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
        num_constant: images of one colour all over.
        num_faint: other images no brighter than 16 of 255, but for a thousandth of their pixels.
        num_faint_deep: those of them that have 16 bits: some of their bits are not used.
        num_without_image: DICOM files in class folders that are no images: reports, plans and the like.
        num_windows_ignored: DICOM files that name a window that means nothing.
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
    num_constant: int = 0
    num_faint: int = 0
    num_faint_deep: int = 0
    num_without_image: int = 0
    num_windows_ignored: int = 0

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
    there = [entry for entry in listing.entries if entry.path.exists()]
    notes.missing = [_name(entry, directory) for entry in listing.entries if not entry.path.exists()]
    for entry, found in zip(there, read_files([Request(entry.path) for entry in there]), strict=True):
        if isinstance(found, NoPixelsError) and listing.layout == "class folders":
            notes.num_without_image += 1
        else:
            notes.look_at(entry, _name(entry, directory), found)
    others: list[str] = []
    if listing.layout == "table":
        named = {entry.path for entry in listing.entries}
        images, _ = find_images(directory) if listing.entries else ([], 0)
        others = [path.relative_to(directory).as_posix() for path in images if path not in named]
    return notes.finish(listing.layout, len(listing.entries) - notes.num_without_image, others)


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
    num_constant: int = 0
    num_faint: int = 0
    num_faint_deep: int = 0
    num_without_image: int = 0
    num_windows_ignored: int = 0

    def look_at(self, entry: Entry, name: str, found: Picture | UnreadableImageError) -> None:
        """Count what became of a file."""
        if isinstance(found, UnreadableImageError):
            self.unreadable.append((name, str(found)))
            return
        patient = entry.patient or found.header.patient
        if patient:
            self.patients.setdefault(patient, set()).add(entry.part)
        self.num_windows_ignored += found.is_window_ignored
        pixels = torch.from_numpy(found.pixels)
        self.add(name, entry.class_name, entry.part, pixels, found.header.is_sixteen_bit)

    def add(self, name: str, class_name: str, part: str, pixels: Tensor, is_deep: bool) -> None:
        """Count the images of a file; `pixels`: [F, C, H, W] uint8; `is_deep`: it has 16 bits."""
        frames, num_channels, height, width = pixels.shape
        self.classes[class_name] += frames
        self.parts[part] += frames
        self.sizes[width, height] += frames
        self.channels[num_channels] += frames
        for frame in pixels:
            is_constant = bool((frame == frame[:, :1, :1]).all())
            num_bright = int((frame.amax(dim=0) > _FAINT).sum())
            is_faint = not is_constant and num_bright <= max(height * width // _PIXELS_A_SPECK, 1)
            self.num_constant += is_constant
            self.num_faint += is_faint
            self.num_faint_deep += is_faint and is_deep
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
            num_constant=self.num_constant,
            num_faint=self.num_faint,
            num_faint_deep=self.num_faint_deep,
            num_without_image=self.num_without_image,
            num_windows_ignored=self.num_windows_ignored,
        )


def _name(entry: Entry, directory: Path) -> str:
    return entry.path.relative_to(directory).as_posix()


def _survey_npz(path: Path, class_names: Sequence[str]) -> Survey:
    names, _ = classes_and_channels(path)
    names = tuple(class_names) or names
    notes = _Notes(dict.fromkeys(names, 0))
    num_images = 0
    for part in PARTS:
        with open_part(path, part) as found:
            check_labels(path, found.labels, len(names))
            num_images += len(found.labels)
            for number, (image, label) in enumerate(zip(found.images, found.labels, strict=True)):
                notes.add(f"{part}/{number}", names[label], part, image, found.is_sixteen_bit)
    return notes.finish("npz", num_images, [])
