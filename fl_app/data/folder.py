"""The source `folder`: a hospital's own images, as class folders, beside a table, or in an npz."""

import dataclasses
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fl_app.data.decoders import read_files
from fl_app.data.entries import Entry, list_entries, no_image
from fl_app.data.files import given_directory
from fl_app.data.images import DatasetInfo, ImageSet, Source
from fl_app.data.listing import PART_NAMES, PARTS, Part
from fl_app.data.loading import resize
from fl_app.data.npz import classes_and_channels, find_npz, open_part, read_npz
from fl_app.data.partition import PUBLIC_KEY, choose_part, hash_position
from fl_app.data.unreadable import Fault, NoPixelsError, UnreadableImageError, check_problems, unreadable
from fl_app.data.worker import Request
from fl_app.errors import DataError, OptionError
from fl_app.options.images import DataOptions

log = logging.getLogger(__name__)


class _Read(NamedTuple):
    """A file, its frames [F, C, size, size] uint8, and its two positions (see `ImageSet`), None if it needs none."""

    entry: Entry
    frames: Tensor
    positions: tuple[float, float] | None


_MANY = 100  # unreadable files, after which reading stops if they are too many


@dataclass(frozen=True)
class OwnImages:
    """The images of a folder for a run.

    Attributes:
        parts: the images of each wanted part; a part that the folder lacks is empty.
        num_unreadable: files that are left out because they are missing or broken.
        is_test_drawn: the folder has no test part, and a share of its training images became one.
    """

    parts: dict[Part, ImageSet]
    num_unreadable: int
    is_test_drawn: bool = False


def stated_info(options: DataOptions) -> DatasetInfo | None:
    """Return classes, channels and size as the options state them; None if the folders decide them.

    Raises:
        OptionError: there is no size, or a class is named twice.
    """
    if not options.image_size:
        raise OptionError("The source 'folder' needs a value for option 'data.image-size'.")
    names = options.class_names
    if len(set(names)) < len(names):
        raise OptionError(f"Option 'data.class-names' must name each class once, got {', '.join(names)}.")
    if not names or not options.num_channels:
        return None
    return DatasetInfo(names, options.num_channels, options.image_size)


def info(options: DataOptions) -> DatasetInfo:
    """Return classes, channels and size as the options state them; the folder decides those that they leave open.

    An unreadable file decides nothing.

    Raises:
        OptionError: as `stated_info` does, or a folder is needed and none is named.
        DataError: as `read_parts` does.
    """
    stated = stated_info(options)
    if stated is not None:
        return stated
    directory = _directory(options)
    npz = find_npz(directory)
    if npz is not None:
        names, num_channels = classes_and_channels(npz)
    else:
        listing = list_entries(directory, options.class_names)
        names, num_channels = listing.class_names, options.num_channels
        if not num_channels:
            found = read_files([Request(entry.path, only_header=True) for entry in listing.entries])
            headers = [one.header for one in found if not isinstance(one, UnreadableImageError)]
            num_channels = max((header.num_channels for header in headers), default=1)
    if not names:
        raise no_image(directory, options.class_names)
    return DatasetInfo(options.class_names or names, options.num_channels or num_channels, options.image_size)


def load(options: DataOptions) -> dict[Part, ImageSet]:
    """Read all parts of the folder that the options name; every file must be readable.

    Raises:
        OptionError: no folder is named, or as `info` does.
        DataError: as `read_parts` does.
    """
    return read_parts(_directory(options), info(options), PARTS, test_share=options.test_share).parts


def read_folder(directory: Path, expected: DatasetInfo, split: str) -> ImageSet:
    """Read one part; every file must be readable.

    Raises:
        DataError: as `read_parts` does, or there is no such part.
    """
    part = PART_NAMES[split]
    images = read_parts(directory, expected, [part]).parts[part]
    if len(images) == 0:
        raise DataError(
            f"{directory} holds no part '{split}': no folder has this name, and no line of a table names it.",
            public=f"the data folder holds no part '{split}'",
        )
    return images


def read_parts(
    directory: Path,
    expected: DatasetInfo,
    wanted: Sequence[Part],
    max_unreadable_share: float = 0.0,
    test_share: float = 0.0,
    key: bytes | None = None,
) -> OwnImages:
    """Read parts of a folder, whatever its form, with the expected channels and size.

    A class without images is fine: a hospital may not hold that class.

    The test part that `test_share` takes out depends only on the patients and pixels of the folder, and on the key, not
    on the run: see `partition.choose_part`.

    Args:
        directory: the folder.
        expected: agreed classes, channels and size.
        wanted: the parts to read.
        max_unreadable_share: share of the files of these parts that may be left out; in [0, 1].
        test_share: share of the training images that become the test part of a folder without one, in [0, 1); more
            than 0 only if all parts are wanted.
        key: the hospital's secret, by which every image gets its position; None: none does, and the test part is drawn
            with a key that is no secret.

    Raises:
        DataError: the folder is missing or of no known form, holds no training images although they are wanted, too
            many files cannot be read, or a patient is in two parts.
    """
    assert test_share == 0 or set(wanted) == set(PARTS), "unknown whether there is a test part"
    npz = find_npz(directory)
    if npz is not None:
        found = _read_npz(npz, expected, wanted, test_share, key)
    else:
        found = _read_files(directory, expected, wanted, max_unreadable_share, test_share, key)
    if "train" in wanted and len(found.parts["train"]) == 0:
        raise no_image(directory, expected.class_names)
    return found


def _directory(options: DataOptions) -> Path:
    directory = given_directory(options)
    if directory is None:
        raise OptionError("The source 'folder' needs a folder: set option 'data.directory'.")
    return directory


def _read_npz(
    path: Path, expected: DatasetInfo, wanted: Sequence[Part], test_share: float, key: bytes | None
) -> OwnImages:
    with open_part(path, "test") as test:
        draws_test = test_share > 0 and len(test.labels) == 0
    parts: dict[Part, ImageSet] = {}
    for part in wanted:
        seen: list[float] = []

        def see(own: Tensor, seen: list[float] = seen) -> None:
            seen.append(hash_position(own, key=key or PUBLIC_KEY))

        is_seen = key is not None or (draws_test and part == "train")
        images = read_npz(path, expected, part, see if is_seen else None)
        if is_seen:  # no patient is known: both positions are those of the image
            both = torch.tensor(seen, dtype=torch.float64)[:, None].expand(-1, 2)
            images = dataclasses.replace(images, positions=both)
        parts[part] = images
    if not draws_test:
        return OwnImages(parts, 0)
    assert parts["train"].positions is not None
    positions = parts["train"].positions[:, 0].tolist()
    chosen = torch.tensor(choose_part(positions, test_share, "test"), dtype=torch.bool)
    train = parts["train"]
    parts["train"], parts["test"] = (train.select(torch.nonzero(side)[:, 0]) for side in (~chosen, chosen))
    return OwnImages(parts, 0, is_test_drawn=bool(chosen.any()))


def _read_files(
    directory: Path,
    expected: DatasetInfo,
    wanted: Sequence[Part],
    max_unreadable_share: float,
    test_share: float,
    key: bytes | None,
) -> OwnImages:
    listing = list_entries(directory, expected.class_names)
    entries = [entry for entry in listing.entries if entry.part in wanted]
    draws_test = test_share > 0 and not any(entry.part == "test" for entry in entries)
    missing = [unreadable(one.path, Fault("it is missing")) for one in entries if not one.path.exists()]
    if entries and len(missing) / len(entries) > max_unreadable_share:  # known without reading any
        check_problems(missing, len(entries), max_unreadable_share)
    secret = key or (PUBLIC_KEY if draws_test else None)
    read, num_unreadable = _decode(
        entries, expected, max_unreadable_share, secret, passes_over_reports=listing.layout == "class folders"
    )
    by_part: dict[Part, list[_Read]] = {part: [one for one in read if one.entry.part == part] for part in wanted}
    patients = {part: {one.entry.patient for one in found} - {""} for part, found in by_part.items()}
    for one, other in itertools.combinations(patients, 2):
        if shared := patients[one] & patients[other]:
            raise DataError(
                f"{directory}: the images of {len(shared)} patients lie partly in '{one}' and partly in '{other}', by "
                "the PatientID of their DICOM files. All images of a patient belong to one part.",
                public="images of one patient lie in two parts",
            )
    if draws_test:
        positions = [one.positions[0] for one in by_part["train"] if one.positions is not None]
        chosen = list(zip(by_part["train"], choose_part(positions, test_share, "test"), strict=True))
        by_part["train"] = [one for one, is_test in chosen if not is_test]
        by_part["test"] = [one for one, is_test in chosen if is_test]
    numbers: dict[str, int] | None = None
    if any(one.entry.patient or len(one.frames) > 1 for one in read):
        numbers = {}
    parts = {part: _image_set(found, expected, numbers, key is not None) for part, found in by_part.items()}
    return OwnImages(parts, num_unreadable, is_test_drawn=draws_test and len(parts["test"]) > 0)


def _decode(
    entries: Sequence[Entry],
    expected: DatasetInfo,
    max_unreadable_share: float,
    key: bytes | None,
    passes_over_reports: bool,
) -> tuple[list[_Read], int]:
    """Read files; return the images, with positions if there is a key, and the number of unreadable files.

    An entry without a patient gets the one that its DICOM file names.
    """
    read: list[_Read] = []
    problems: list[UnreadableImageError] = []
    num_reports, num_windows = 0, 0
    requests = [Request(entry.path, expected.num_channels, wants_own=key is not None) for entry in entries]
    for entry, found in zip(entries, read_files(requests), strict=True):
        if isinstance(found, NoPixelsError) and passes_over_reports:
            num_reports += 1
        elif isinstance(found, UnreadableImageError):
            problems.append(found)
            if len(problems) >= _MANY and len(problems) / len(entries) > max_unreadable_share:
                check_problems(problems, len(entries), max_unreadable_share, "at least ")
        else:
            patient = entry.patient or found.header.patient
            positions = None
            if key is not None:
                own = torch.from_numpy(found.own)
                positions = (hash_position(own, patient, key), hash_position(own, key=key))
            pixels = resize(torch.from_numpy(found.pixels), expected.image_size)
            read.append(_Read(dataclasses.replace(entry, patient=patient), pixels, positions))
            num_windows += found.is_window_ignored
    if num_windows:
        log.warning("%d DICOM files name a window that means nothing: each is shown by its own range", num_windows)
    if num_reports:
        log.info("%d DICOM files hold no image (reports, plans and the like) and are passed over", num_reports)
    check_problems(problems, len(entries) - num_reports, max_unreadable_share)
    return read, len(problems)


def _image_set(
    pairs: Sequence[_Read], expected: DatasetInfo, numbers: dict[str, int] | None, is_placed: bool
) -> ImageSet:
    """Join images; `numbers` holds a number for each patient and gets those of new ones; None: no patient is known."""
    size = expected.image_size
    images = [torch.zeros(0, expected.num_channels, size, size, dtype=torch.uint8), *(one.frames for one in pairs)]
    labels = [expected.class_names.index(one.entry.class_name) for one in pairs for _ in one.frames]
    groups, positions = None, None
    if numbers is not None:
        # without a patient's number, the frames of a file belong together
        names = [f"patient {entry.patient}" if entry.patient else f"file {entry.path}" for entry, _, _ in pairs]
        found = [numbers.setdefault(name, len(numbers)) for name in names]
        of_frames = [group for group, one in zip(found, pairs, strict=True) for _ in one.frames]
        groups = torch.tensor(of_frames, dtype=torch.int64)
    if is_placed:
        placed = [one.positions for one in pairs for _ in one.frames]
        positions = torch.tensor(placed, dtype=torch.float64).reshape(-1, 2)
    labels_of = torch.tensor(labels, dtype=torch.int64)
    return ImageSet(torch.cat(images), labels_of, expected.class_names, groups, positions)


SOURCE = Source(info, lambda options, wanted: load(options))
