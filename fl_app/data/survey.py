"""What a hospital's folder holds, told to the hospital's own people: nothing of it is sent anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


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

    layout: Literal["class folders", "table", "npz"]
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
        """Return the share of labelled files that are missing or cannot be read, as `max-unreadable-share` counts it."""
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
    raise NotImplementedError
