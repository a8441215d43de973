"""A hospital's own split: its secret key decides, and no two runs see sets of images that differ by a few.

Whoever knows the sums over two sets that differ by one image knows that image. So neither the options of a run nor an
image that is added or removed may make such two sets: a class of images is used as it was, until FEWEST_CHANGES of its
patients (or images, if patients are not known) have changed.
"""

import hashlib
import logging
import os
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fl_app.data.images import ImageSet
from fl_app.data.listing import PARTS, Part
from fl_app.data.partition import choose_part
from fl_app.errors import DataError, RunFolderError
from fl_app.files import make_private, replacing
from fl_app.options.training import TrainingOptions

log = logging.getLogger(__name__)

FEWEST_CHANGES = 20

Positions = NDArray[np.float64]  # [N, 2], see ImageSet

_KEY_BYTES = 32
_KEY_FAULT = "the file of the key by which this node splits its images is damaged or cannot be used; its log names it"
_MOST_REMEMBERED = 8  # sets of images of a class

_Image = tuple[float, ...]  # positions of its patient and its file


def derived_key(seed: int, site: str) -> bytes:
    """Return the key with which a simulation stands for a site."""
    return hashlib.blake2b(f"{seed} {site}".encode(), digest_size=_KEY_BYTES, person=b"fl-app split").digest()


def new_key() -> bytes:
    """Return a new secret key."""
    return secrets.token_bytes(_KEY_BYTES)


def find_key(path: Path, *, makes: bool) -> bytes:
    """Return a hospital's secret key; it is made when it is first needed.

    Args:
        path: the file, which only the node's user can read.
        makes: whether a missing file is made; if not, a key that is no secret stands for it, the same in each call.

    Raises:
        DataError: the file is damaged, or cannot be read or written.
    """
    try:
        if not path.exists():
            if not makes:
                return derived_key(0, path.name)
            make_private(path.parent)
            _write_once(path, new_key().hex())
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}, the key by which this node splits its images, cannot be read or written ({error}). Make the "
            "folder writable for the node's user, or set node option 'state-dir'. If the file is damaged, restore it "
            "from a backup; a new key would split the images anew.",
            public=_KEY_FAULT,
        ) from error
    if len(key) != _KEY_BYTES:
        raise DataError(
            f"{path} must hold {2 * _KEY_BYTES} hexadecimal digits, got {2 * len(key)}. Restore it from a backup; a "
            "new key would split the images anew.",
            public=_KEY_FAULT,
        )
    return key


def hold_out(train: ImageSet, share: float, tested: float) -> tuple[ImageSet, ImageSet]:
    """Split training images into those that stay and held-out ones, by the positions of their patients.

    Args:
        train: with positions in [`tested`, 1).
        share: of the patients, in [0, 1).
        tested: share of the patients that the test part has taken, those with the lowest positions.

    Returns:
        The training images and the held-out images.
    """
    assert train.positions is not None
    left = ((train.positions[:, 0] - tested) / (1.0 - tested)).tolist()
    is_held_out = torch.tensor(choose_part(left, share, "val"), dtype=torch.bool)
    return train.select(torch.nonzero(~is_held_out)[:, 0]), train.select(torch.nonzero(is_held_out)[:, 0])


def order_name(secret: bytes | None, task: str, options: TrainingOptions) -> str:
    """Return the purpose of the random numbers that order a task's training images.

    At a hospital another size of the batches makes another order, which nobody else knows. Else the second batch of 20
    images and that of 21 would differ by one.

    Args:
        secret: the hospital's key; None: a simulation's.
        task: whose images are ordered.
        options: of the task.
    """
    if secret is None:
        return f"{task}-order"
    about = f"{task} {options.batch_size} {options.epochs!r}".encode()
    return f"{task}-order-{hashlib.blake2b(about, key=secret, person=b'fl-app order').hexdigest()}"


def first_images(images: ImageSet, limit: int) -> ImageSet:
    """Return the images of the patients with the lowest positions: at most `limit` images; 0: all."""
    assert images.positions is not None
    if not 0 < limit < len(images):
        return images
    units = images.positions[:, 0]
    return images.select(torch.nonzero(units < torch.sort(units).values[limit])[:, 0])


def settle(parts: Mapping[Part, ImageSet], path: Path) -> dict[Part, ImageSet]:
    """Return the images that may be used: see the top of this file.

    Args:
        parts: all images, with positions.
        path: a file that remembers what was used before; it holds positions and names of classes.

    Raises:
        DataError: the file cannot be read or written.
    """
    try:
        known = load(path.read_bytes()) if path.exists() else {}
        used, arrays = {}, dict(known)
        for part, images in parts.items():
            assert images.positions is not None
            positions, labels = images.positions.numpy(), images.labels.numpy()
            is_used = np.zeros(len(images), dtype=np.bool_)
            for label in np.unique(labels):
                members = np.flatnonzero(labels == label)
                key = f"{part}/{images.class_names[label]}/"
                last = max((name for name in known if name.rpartition("/")[0] + "/" == key), default=None)
                if last is not None and np.array_equal(known[last], positions[members]):  # nothing came or went
                    is_used[members] = True
                    continue
                earlier = _earlier_sets(known, key, positions[members])
                is_used[members] = may_use(positions[members], earlier)
                now = positions[members[is_used[members]]]
                if len(now) and not any(_images(now) == _images(other) for other in earlier):
                    kept = [*earlier, now][-_MOST_REMEMBERED:]
                    arrays |= {f"{key}{number:02d}": value for number, value in enumerate(kept)}
            used[part] = images.select(torch.from_numpy(np.flatnonzero(is_used)))
        if any(arrays[key] is not known.get(key) for key in arrays):
            make_private(path.parent)
            with replacing(path) as temporary:
                temporary.touch(0o600)
                temporary.write_bytes(save(arrays))
    except (OSError, SafetensorError, RunFolderError) as error:
        raise DataError(
            f"{path}, which remembers the images that this node has used, cannot be read or written ({error}). Make "
            "it readable and writable for the node's user. If it is damaged, delete it: then images that were added or "
            "removed since the last run may be told from sums of both runs.",
            public="this node cannot tell which images it has used before, and so uses none",
        ) from error
    num_left_out = {part: len(images) - len(used[part]) for part, images in parts.items()}
    if any(num_left_out.values()):
        log.warning(
            "Fewer than %d patients or images of a class were added or removed since the last run: %d training, %d "
            "held-out and %d test images are left out, so that none can be told from sums of both runs",
            FEWEST_CHANGES,
            *(num_left_out.get(part, 0) for part in PARTS),
        )
    return used


def _earlier_sets(known: Mapping[str, Positions], key: str, now: Positions) -> list[Positions]:
    """Return the sets that were used of a class, under whatever name: a run names the classes of an npz as it likes."""
    part, own, others = key.split("/")[0], [], []
    for name, value in sorted(known.items()):
        if name.rpartition("/")[0] + "/" == key:
            own.append(value)
        elif name.split("/")[0] == part:
            num_shared = int(np.isin(now[:, 1], value[:, 1]).sum())
            if 2 * num_shared > min(len(now), len(value)):
                others.append(value)
    return others + own


def may_use(now: Positions, earlier: Sequence[Positions]) -> NDArray[np.bool_]:
    """Tell which images of a class may be used, so that what is used differs enough from each set that was used before.

    If fewer than FEWEST_CHANGES patients differ, added images wait. Removed ones cannot be used; so images of other
    patients, those with the highest positions, are left out with them, until enough differ.

    Args:
        now: of all images of the class, [N, 2].
        earlier: of the sets of images that were used before, the last one last.

    Returns:
        [N]
    """
    have, sets = _images(now), [_images(positions) for positions in earlier]
    if not _is_near(have, sets):
        return np.ones(len(now), dtype=np.bool_)
    contained = [other for other in sets if other <= have]
    left = contained[-1] if contained else _reduced(have, sets[-1])
    if _is_near(left, sets):
        left = Counter()
    is_used = np.zeros(len(now), dtype=np.bool_)
    for number, image in enumerate(map(tuple, now.tolist())):
        if left[image] > 0:
            left[image] -= 1
            is_used[number] = True
    return is_used


def _images(positions: Positions) -> "Counter[_Image]":
    return Counter(map(tuple, positions.tolist()))


def _is_near(images: "Counter[_Image]", others: "Iterable[Counter[_Image]]") -> bool:
    """Return whether images differ from one of the other sets by some patients, but by too few."""
    return any(0 < len(_patients((images - other) | (other - images))) < FEWEST_CHANGES for other in others)


def _patients(images: "Counter[_Image]") -> set[float]:
    return {patient for patient, _ in images}


def _reduced(have: "Counter[_Image]", had: "Counter[_Image]") -> "Counter[_Image]":
    """Return the images of a set that are still there, without those of as many patients as have to differ."""
    removed = _patients(had - have)
    others = sorted(_patients(have & had) - removed)
    left_out = removed | set(others[len(others) - max(FEWEST_CHANGES - len(removed), 0) :])
    return Counter({image: count for image, count in (have & had).items() if image[0] not in left_out})


def _write_once(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all, and was not there before; another process may be first."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()
