"""The source `folder`: a hospital's own images, as class folders, beside a table, or in an npz."""

import dataclasses
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fl_app.data.decoding import Header
from fl_app.data.entries import Entry, list_entries, no_image
from fl_app.data.files import given_directory
from fl_app.data.images import DatasetInfo, ImageSet
from fl_app.data.npz import classes_and_channels, find_npz, open_part, read_npz
from fl_app.data.own_test_set import choose_test, patient_identity, pixel_identity, test_position
from fl_app.data.parts import PART_NAMES, PARTS, Part, Source
from fl_app.data.pool import Request, read_files
from fl_app.data.resizing import resize
from fl_app.data.unreadable import Fault, NoPixelsError, UnreadableImageError, unreadable
from fl_app.errors import DataError, OptionError
from fl_app.options.run import DataOptions

log = logging.getLogger(__name__)

_MANY = 100  # unreadable files after which nobody needs to know how many more there are


@dataclass(frozen=True)
class OwnImages:
    """What a folder holds for a run.

    Attributes:
        parts: the images of each part that was asked for; one that the folder does not have is empty.
        num_unreadable: files that are left out because they are missing or broken.
        is_test_drawn: the folder has no test part of its own, and a share of its training images became one.
    """

    parts: dict[Part, ImageSet]
    num_unreadable: int
    is_test_drawn: bool = False


def stated_info(options: DataOptions) -> DatasetInfo | None:
    """Return classes, channels and size as the options state them; None where the folders are to say.

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
    """Return what the options state, and what they leave open as the folder has it.

    Raises:
        OptionError: as `stated_info` does, or no folder is named where one is needed.
        DataError: as `read_parts` does.
    """
    return stated_info(options) or _look_up(_directory(options), options)


def load(options: DataOptions) -> dict[Part, ImageSet]:
    """Read all parts of the folder that the options name, every file of which must be readable.

    Raises:
        OptionError: no folder is named, or as `info` raises it.
        DataError: as `read_parts` raises it.
    """
    return read_parts(_directory(options), info(options), PARTS, test_share=options.test_share).parts


def read_folder(directory: Path, expected: DatasetInfo, split: str) -> ImageSet:
    """Read one part, of which every file must be readable.

    Raises:
        DataError: as `read_parts` does, or there is no such part.
    """
    part = PART_NAMES[split]
    images = read_parts(directory, expected, [part]).parts[part]
    if len(images) == 0:
        raise DataError(
            f"{directory} holds no part '{split}': no folder of that name, and no line of a table that says so.",
            public=f"the data folder holds no part '{split}'",
        )
    return images


def read_parts(
    directory: Path,
    expected: DatasetInfo,
    wanted: Sequence[Part],
    max_unreadable_share: float = 0.0,
    test_share: float = 0.0,
) -> OwnImages:
    """Read parts of a folder, in whichever form its images are; they get the expected channels and size.

    A class without images is fine: a hospital may not hold that class.

    The test part that `test_share` takes out depends on patients and pixels as the folder has them, and on nothing that
    a run decides: see `own_test_set.choose_test`.

    Args:
        directory: the folder.
        expected: agreed classes, channels and size.
        wanted: which parts to read.
        max_unreadable_share: of the files of these parts, which may be left out; in [0, 1].
        test_share: share of the training images that become the test part of a folder without one, in [0, 1); more
            than 0 only where all parts are wanted.

    Raises:
        DataError: the folder is missing or of no known form, holds nothing to train on where that is wanted, too many
            files cannot be read, or a patient is on two sides.
    """
    assert test_share == 0 or set(wanted) == set(PARTS), "whether there is a test part is not known"
    npz = find_npz(directory)
    if npz is not None:
        found = _read_npz(npz, expected, wanted, test_share)
    else:
        found = _read_files(directory, expected, wanted, max_unreadable_share, test_share)
    if "train" in wanted and len(found.parts["train"]) == 0:
        raise no_image(directory, expected.class_names)
    return found


def _directory(options: DataOptions) -> Path:
    directory = given_directory(options)
    if directory is None:
        raise OptionError("The source 'folder' needs a folder: set option 'data.directory'.")
    return directory


def _look_up(directory: Path, options: DataOptions) -> DatasetInfo:
    """Find out the classes and channels that the options leave open; an unreadable file says nothing."""
    npz = find_npz(directory)
    if npz is not None:
        names, num_channels = classes_and_channels(npz)
    else:
        listing = list_entries(directory, options.class_names)
        names, num_channels = listing.class_names, options.num_channels or _channels(listing.entries)
    if not names:
        raise no_image(directory, options.class_names)
    return DatasetInfo(options.class_names or names, options.num_channels or num_channels, options.image_size)


def _channels(entries: Sequence[Entry]) -> int:
    """Return 3 if a file is in colour, else 1."""
    found = read_files([Request(entry.path, only_header=True) for entry in entries])
    return 3 if any(not isinstance(one, UnreadableImageError) and one.header.num_channels == 3 for one in found) else 1


def _read_npz(path: Path, expected: DatasetInfo, wanted: Sequence[Part], test_share: float) -> OwnImages:
    with open_part(path, "test") as test:
        draws_test = test_share > 0 and len(test.labels) == 0
    positions: list[float] = []  # of the training images

    def see(own: Tensor) -> None:
        positions.append(test_position(pixel_identity(own)))

    parts = {part: read_npz(path, expected, part, see if draws_test and part == "train" else None) for part in wanted}
    if not draws_test:
        return OwnImages(parts, 0)
    chosen = torch.tensor(choose_test(positions, test_share), dtype=torch.bool)
    train = parts["train"]
    parts["train"], parts["test"] = (train.select(torch.nonzero(side)[:, 0]) for side in (~chosen, chosen))
    return OwnImages(parts, 0, is_test_drawn=bool(chosen.any()))


def _read_files(
    directory: Path, expected: DatasetInfo, wanted: Sequence[Part], max_unreadable_share: float, test_share: float
) -> OwnImages:
    listing = list_entries(directory, expected.class_names)
    entries = [entry for entry in listing.entries if entry.part in wanted]
    draws_test = test_share > 0 and not any(entry.part == "test" for entry in entries)
    missing = [unreadable(one.path, Fault("it is missing")) for one in entries if not one.path.exists()]
    if entries and len(missing) / len(entries) > max_unreadable_share:  # known without reading any
        _check_problems(missing, len(entries), max_unreadable_share)
    read: dict[Part, list[tuple[Entry, Tensor]]] = {part: [] for part in wanted}
    positions: list[float] = []  # of the training files
    problems: list[UnreadableImageError] = []
    num_without_image, num_windows = 0, 0
    requests = [
        Request(entry.path, expected.num_channels, wants_own=draws_test and entry.part == "train") for entry in entries
    ]
    for listed, found in zip(entries, read_files(requests), strict=True):
        if isinstance(found, NoPixelsError) and listing.layout == "class folders":
            num_without_image += 1
        elif isinstance(found, UnreadableImageError):
            problems.append(found)
            if len(problems) >= _MANY and len(problems) / len(entries) > max_unreadable_share:
                _check_problems(problems, len(entries), max_unreadable_share, "at least ")
        else:
            entry, pixels = with_patient(listed, found.header), torch.from_numpy(found.pixels)
            if draws_test and entry.part == "train":
                own = pixel_identity(torch.from_numpy(found.own))
                positions.append(test_position(patient_identity(entry.patient) if entry.patient else own))
            read[entry.part].append((entry, resize(pixels, expected.image_size)))
            num_windows += found.is_window_ignored
    if num_windows:
        log.warning("%d DICOM files name a window that means nothing: each is shown by its own range", num_windows)
    if num_without_image:
        log.info("%d DICOM files hold no image (reports, plans and the like) and are passed over", num_without_image)
    _check_problems(problems, len(entries) - num_without_image, max_unreadable_share)
    _check_sides(directory, {part: {entry.patient for entry, _ in pairs} for part, pairs in read.items()})
    if draws_test:
        chosen = list(zip(read["train"], choose_test(positions, test_share), strict=True))
        read["train"], read["test"] = ([pair for pair, is_test in chosen if is_test == side] for side in (False, True))
    pairs = [pair for found in read.values() for pair in found]
    numbers: dict[str, int] | None = None
    if any(entry.patient or len(frames) > 1 for entry, frames in pairs):
        numbers = {}
    parts = {part: _image_set(found, expected, numbers) for part, found in read.items()}
    return OwnImages(parts, len(problems), is_test_drawn=draws_test and len(parts["test"]) > 0)


def with_patient(entry: Entry, header: Header) -> Entry:
    """Return an entry with the patient whom its DICOM file names, if nothing else does."""
    return entry if entry.patient else dataclasses.replace(entry, patient=header.patient)


def _image_set(
    pairs: Sequence[tuple[Entry, Tensor]], expected: DatasetInfo, numbers: dict[str, int] | None
) -> ImageSet:
    """Join images; `numbers` gives each patient a number, and is added to; None: there is nobody to be numbered."""
    size = expected.image_size
    images = [torch.zeros(0, expected.num_channels, size, size, dtype=torch.uint8), *(frames for _, frames in pairs)]
    labels = [expected.class_names.index(entry.class_name) for entry, frames in pairs for _ in frames]
    groups = None
    if numbers is not None:
        # without a patient's number, the frames of a file belong together
        names = [f"patient {entry.patient}" if entry.patient else f"file {entry.path}" for entry, _ in pairs]
        found = [numbers.setdefault(name, len(numbers)) for name in names]
        of_frames = [group for group, (_, frames) in zip(found, pairs, strict=True) for _ in frames]
        groups = torch.tensor(of_frames, dtype=torch.int64)
    return ImageSet(torch.cat(images), torch.tensor(labels, dtype=torch.int64), expected.class_names, groups)


def _check_problems(
    problems: Sequence[UnreadableImageError], num_files: int, max_share: float, at_least: str = ""
) -> None:
    if not problems:
        return
    are = "is" if len(problems) == 1 else "are"
    count = f"{at_least}{len(problems)} of {num_files} image files {are} missing or broken"
    if len(problems) / num_files > max_share:
        raise DataError(
            f"{count}; allowed is a share of {max_share:g} (node option 'max-unreadable-share'). "
            f"The first one: {problems[0]}",
            public=f"{count}, more than this node allows",
        )
    log.warning("%s and left out. The first one: %s", count, problems[0])


def _check_sides(directory: Path, patients: dict[Part, set[str]]) -> None:
    """Refuse a split in which DICOM files of one patient lie in two parts."""
    for one, other in itertools.combinations(patients, 2):
        shared = (patients[one] & patients[other]) - {""}
        if shared:
            raise DataError(
                f"{directory}: the images of {len(shared)} patients lie partly in '{one}' and partly in '{other}', by "
                "the PatientID of their DICOM files. All images of a patient belong to one part.",
                public="images of one patient lie in two parts",
            )


SOURCE = Source(info, lambda options, wanted: load(options))
