"""Near copies that a node found: each generated image beside its nearest training image, on the node's own disk.

A simulated node's images are public, and its file lies in the run folder. A hospital's lies in its `state-dir`. No
message holds any of it.
"""

import json
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path

import torch
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fl_app.errors import RunFolderError
from fl_app.files import KEBAB, from_json, make_private, replacing, to_json

COPIES = Path("diffusion", "copies")  # in the run folder of a simulation: a file for each site
STATE_FILE = "copies.safetensors"  # in a hospital's state of the task
MOST_KEPT = 50  # pairs
_ABOUT = "about"


@dataclass(frozen=True, kw_only=True, config=KEBAB)
class Pair:
    """A near copy.

    Attributes:
        space: the features by which it is one.
        ratio: distance of the training image over the mean distance of the nearest ones.
        drawn: which of the drawn images it is, from 0.
        drawn_class: that it was drawn for.
        trained: which of the node's training images is the nearest, from 0.
        trained_class: of this one.
        position: hash of this image with the hospital's key, by which its file is found; None: it has none.
    """

    space: str
    ratio: float
    drawn: int
    drawn_class: str
    trained: int
    trained_class: str
    position: float | None = None


@dataclass(frozen=True, kw_only=True, config=KEBAB)
class Found:
    """What a node found in a run.

    Attributes:
        run: name of the run.
        site: name of the node.
        round: whose weights drew the images.
        num_drawn: images that were drawn; 0 if they are not finite numbers.
        num_train: training images that they were compared with.
        counts: of each space: generated images, near copies, held-out images, near copies among these.
        pairs: near copies, the nearest first; at most `MOST_KEPT`.
    """

    run: str
    site: str
    round: int
    num_drawn: int
    num_train: int
    counts: dict[str, list[int]] = field(default_factory=dict)
    pairs: tuple[Pair, ...] = ()


Part = tuple[Found, Tensor, Tensor]  # of a file: what was found, and the images of its pairs, generated and training


def write_copies(path: Path, found: Found, drawn: Tensor, trained: Tensor) -> None:
    """Write what a node found, for its own user alone.

    Args:
        path: of the file; its folder is made, closed to other users.
        found: with K pairs.
        drawn: generated image of each pair, [K, C, H, W] uint8.
        trained: training image of each pair, [K, C, H, W] uint8.

    Raises:
        OSError: the folder cannot be made.
        RunFolderError: the file cannot be written.
    """
    make_private(path.parent)
    with replacing(path, mode=0o600) as temporary:
        images = {"drawn": drawn.contiguous(), "trained": trained.contiguous()}
        save_file(images, temporary, {_ABOUT: json.dumps(to_json(found))})


def read_copies(path: Path) -> tuple[Found, Tensor, Tensor]:
    """Return what `write_copies` wrote; raises RunFolderError if it is damaged or cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            found = from_json(Found, (file.metadata() or {})[_ABOUT].encode())
            drawn, trained = file.get_tensor("drawn"), file.get_tensor("trained")
    except (OSError, SafetensorError, KeyError) as error:
        raise RunFolderError(f"{path} is damaged, or cannot be read ({error}).") from None
    shapes = {drawn.shape, trained.shape}
    is_whole = found is not None and len(shapes) == 1 and drawn.ndim == 4 and len(drawn) == len(found.pairs)
    if found is None or not is_whole or {drawn.dtype, trained.dtype} != {torch.uint8}:
        raise RunFolderError(f"{path} is damaged: it does not hold pairs of images.")
    return found, drawn, trained


def files_of_run(run: Path) -> list[Path]:
    """Return the files of a simulation's run folder, by site."""
    return sorted((run / COPIES).glob("*.safetensors"))


def files_of_node(state: Path, run: str | None = None) -> list[Path]:
    """Return the files in a hospital's state, the oldest first; `run`: of this run alone."""
    found = [path for path in state.glob(f"*/*/diffusion/{STATE_FILE}") if run in (None, path.parts[-4])]
    return sorted(found, key=lambda path: path.stat().st_mtime)


def joined(parts: Sequence[Part]) -> tuple[list[tuple[Found, Pair]], Tensor, Tensor]:
    """Return the pairs of several files as one list, the nearest first, and their images; images of one size only."""
    pairs = [(found, pair) for found, _, _ in parts for pair in found.pairs]
    some = [part for part in parts if part[0].pairs]
    blank = torch.zeros(0, 1, 1, 1, dtype=torch.uint8)
    if len({part[1].shape[1:] for part in some}) > 1:
        raise RunFolderError("The runs have images of several sizes, which one picture cannot show. Name one run.")
    drawn, trained = (
        torch.cat([blank] if not some else images) for images in ([p[1] for p in some], [p[2] for p in some])
    )
    order = sorted(range(len(pairs)), key=lambda place: pairs[place][1].ratio)
    return [pairs[place] for place in order], drawn[order], trained[order]
