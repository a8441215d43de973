"""The content of a hospital's folder, for the hospital's own people: nothing of it is sent anywhere."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from fl_app.data.decoders import read_files
from fl_app.data.entries import Entry, list_entries
from fl_app.data.listing import PARTS, find_images
from fl_app.data.npz import check_labels, classes_and_channels, find_npz, open_part
from fl_app.data.unreadable import NoPixelsError, UnreadableImageError
from fl_app.data.worker import Request

Layout = Literal["class folders", "table", "npz"]

_FAINT = 16  # of 255: 4,095 in 16 bits, the largest value of an image with 12 bits
_PIXELS_A_SPECK = 1_000  # one in so many, and at least one, may be brighter: a defect or a mark


@dataclass(frozen=True)
class Survey:
    """The content of a folder. Names of files are relative to it, and stay at the hospital.

    Attributes:
        layout: the form of the labels.
        class_counts: readable images of each class; a frame of a DICOM file is an image.
        part_counts: readable images of each part: train, validation, test.
        sizes: readable images of each (width, height) in pixels.
        channels: readable images by number of channels, 1 (grey) or 3 (RGB).
        num_files: labelled files, unreadable ones included; of an npz, its images.
        num_patients: patients that are known by name; None if no image names its patient.
        num_patients_on_two_sides: patients with images in more than one part.
        unreadable: file and reason, for each labelled file that exists and cannot be read.
        labels_without_file: files that a table names and that do not exist.
        files_without_label: images in the folder that the table does not name.
        duplicates: groups of files with the same pixels.
        contradictions: the groups whose files have different labels.
        num_constant: images of a single colour.
        num_faint: other images in which no more than a thousandth of the pixels is brighter than 16 of 255.
        num_faint_deep: faint images with 16 bits: some of the bits are not used.
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
        """Return the share of the labelled files that are missing or broken."""
        bad = len(self.unreadable) + len(self.labels_without_file)
        return bad / self.num_files if self.num_files else 0.0


def survey(directory: Path, class_names: Sequence[str] = ()) -> Survey:
    """Read every image of a folder, and count what is there.

    Args:
        directory: the hospital's folder; it is only read.
        class_names: the agreed ones, others are rejected; empty: all that are found.

    Raises:
        DataError: the folder is missing, or has no form that a run can read: see `docs/data.md`.
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
        name = _name(entry, directory)
        if isinstance(found, NoPixelsError) and listing.layout == "class folders":
            notes.counts["num_without_image"] += 1
        elif isinstance(found, UnreadableImageError):
            notes.unreadable.append((name, str(found)))
        else:
            patient = entry.patient or found.header.patient
            if patient:
                notes.patients.setdefault(patient, set()).add(entry.part)
            notes.counts["num_windows_ignored"] += found.is_window_ignored
            pixels = torch.from_numpy(found.pixels)
            notes.add(name, entry.class_name, entry.part, pixels, found.header.is_sixteen_bit)
    others: list[str] = []
    if listing.layout == "table":
        named = {entry.path for entry in listing.entries}
        images, _ = find_images(directory) if listing.entries else ([], 0)
        others = [path.relative_to(directory).as_posix() for path in images if path not in named]
    return notes.finish(listing.layout, len(listing.entries) - notes.counts["num_without_image"], others)


@dataclass
class _Notes:
    """What is counted while a folder is read; `counts`: by the name of `Survey`'s attribute."""

    classes: dict[str, int]
    parts: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    channels: Counter[int] = field(default_factory=Counter)
    patients: dict[str, set[str]] = field(default_factory=dict)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    same: dict[bytes, list[tuple[str, str]]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

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
            self.counts.update(num_constant=is_constant, num_faint=is_faint, num_faint_deep=is_faint and is_deep)
        digest = hashlib.sha256(repr(tuple(pixels.shape)).encode() + pixels.numpy().tobytes()).digest()
        self.same.setdefault(digest, []).append((name, class_name))

    def finish(self, layout: Layout, num_files: int, without_label: Sequence[str]) -> Survey:
        """Return the result."""
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
            **self.counts,
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
