"""Does the diffusion model repeat this node's training images? The node draws images itself, and looks for copies.

It uses no image that a message holds: a server that chose the images could ask which ones are among the training
images. A hospital's images are also drawn from noise that nobody else can compute.
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fl_app.data.images import ImageSet
from fl_app.errors import RunFolderError
from fl_app.messages.records import MEMBERSHIP, Instruction
from fl_app.metrics.nearest import DRAWN, SPACES, blank_copies, copy_sums, neighbours
from fl_app.node.answering import Node
from fl_app.node.exchanged import Sums
from fl_app.node.permissions import NotAllowedError
from fl_app.node.questions import question_of
from fl_app.node.state import RunFile, is_in_run_folder, state_folder
from fl_app.quality.drawing import classes_to_draw
from fl_app.quality.features import Pixels, set_features
from fl_app.runs.pairs import COPIES, MOST_KEPT, Found, Pair, write_copies
from fl_app.seeding import seed_for

if TYPE_CHECKING:  # importing it costs a node of a classifier seconds
    from fl_app.diffusion.task import DiffusionTask

log = logging.getLogger(__name__)

Array = NDArray[np.float64]
Sets = tuple[Array, Array, Array]  # of drawn, training and held-out images


def search_copies(task: "DiffusionTask", node: Node, instruction: Instruction) -> Sums:
    """Draw images with the received weights, and count near copies of training images among them.

    Args:
        task: of the instruction.
        node: with its images.
        instruction: with weights that the node has accepted.

    Returns:
        The sums of `metrics.nearest.blank_copies`; empty if the run's options ask for none. The pairs stay here.
    """
    asked, train = node.config.audit.copies_images, node.data.train
    if asked == 0:
        return {}
    sums = blank_copies()
    if len(train) == 0:
        return sums
    model = task.build_model().to(node.device)
    model.load_state_dict(instruction.weights)
    counts = train.class_counts().cpu().numpy()
    labels = classes_to_draw(counts, (counts > 0).tolist(), asked)
    drawn = task.draw_images(model, labels, seed=copies_seed(node))
    sums[DRAWN] = np.array([asked, 0 if drawn is None else asked], dtype=np.float64)
    if drawn is None:
        log.warning("The diffusion model draws values that are not finite: no copies can be looked for")
        drawn = train.select(torch.zeros(0, dtype=torch.int64))
    model.to(node.device)  # drawing moves it to the best device
    spaces = features_of(task, model, drawn, node) if len(drawn) else {}
    for space, sets in spaces.items():
        sums |= {f"copies/{space}/{key}": value for key, value in copy_sums(*sets).items()}
    _keep(node, instruction, sums, drawn, _pairs(spaces, drawn, train))
    return sums


def features_of(task: "DiffusionTask", model: nn.Module, drawn: ImageSet, node: Node) -> dict[str, Sets]:
    """Return the features of drawn, training and held-out images in each space; a space that is not defined is missing.

    Args:
        task: of the model.
        model: the U-Net, on the node's device.
        drawn: at least one image.
        node: with its images.
    """
    images = (drawn, node.data.train, node.data.validation)
    of_pixels = [set_features(Pixels(), one, node.device) for one in images]
    of_unet = [task.middle_features(model, one, node.device) for one in images]
    spaces: dict[str, Sequence[Array | None]] = {"pixels": of_pixels, "unet": of_unet}
    found = {name: [one for one in sets if one is not None] for name, sets in spaces.items()}
    return {name: (sets[0], sets[1], sets[2]) for name, sets in found.items() if len(sets) == len(images)}


def copies_seed(node: Node) -> int:
    """Return the seed of the node's images: of the run's seed, its site and, at a hospital, its secret key."""
    secret = node.data.secret
    own = "" if secret is None else hashlib.blake2b(b"", key=secret, person=b"fl-app copies").hexdigest()
    return seed_for(node.config.seed, node.data.site, "copies", own)


def check_number(node: Node) -> None:
    """Raise NotAllowedError if a run asks for copies among fewer images than the hospital sends sums of."""
    asked, fewest = node.config.audit.copies_images, question_of(MEMBERSHIP).fewest(node.options)
    if 0 < asked < fewest:
        raise NotAllowedError(
            f"this node was asked to look for copies among {asked} images that it draws, and sends nothing of fewer "
            f"than {fewest}. Raise 'audit.copies-images', or set it to 0"
        )


def _pairs(spaces: dict[str, Sets], drawn: ImageSet, train: ImageSet) -> list[Pair]:
    """Return the near copies, the nearest first: of each space as many, at most `MOST_KEPT` in all."""
    pairs: list[Pair] = []
    names, positions = train.class_names, train.positions
    for space, (of_drawn, of_train, _) in spaces.items():
        found = neighbours(of_drawn, of_train)
        order = np.argsort(found.ratio, kind="stable")
        nearest = [int(one) for one in order if found.is_copy()[one]][: MOST_KEPT // len(SPACES)]
        pairs += [
            Pair(
                space=space,
                ratio=float(found.ratio[one]),
                drawn=one,
                drawn_class=names[int(drawn.labels[one])],
                trained=int(found.nearest[one]),
                trained_class=names[int(train.labels[found.nearest[one]])],
                position=None if positions is None else float(positions[found.nearest[one], 1]),
            )
            for one in nearest
        ]
    return pairs


def _keep(node: Node, instruction: Instruction, sums: Sums, drawn: ImageSet, pairs: list[Pair]) -> None:
    """Write what was found into the node's state; a simulated node's into the run folder, for its images are public."""
    found = Found(
        run=instruction.run_name,
        site=node.data.site,
        round=instruction.round_number,
        num_drawn=len(drawn),
        num_train=len(node.data.train),
        counts={space: [int(one) for one in sums[f"copies/{space}/counts"]] for space in SPACES},
        pairs=tuple(pairs),
    )
    of_drawn = drawn.images[[one.drawn for one in pairs]]
    of_train = node.data.train.images[[one.trained for one in pairs]]
    log.info("Looked for near copies among %d images: %d pairs are kept here", len(drawn), len(pairs))
    try:
        write_copies(_path(node, instruction), found, of_drawn, of_train)
    except (OSError, RunFolderError) as error:
        log.warning("The near copies cannot be kept for `fl-app copies`: %s", error)


def _path(node: Node, instruction: Instruction) -> Path:
    if is_in_run_folder(node.options, instruction.run_folder):
        return Path(instruction.run_folder) / COPIES / f"{node.data.site}.safetensors"
    return RunFile.PAIRS.path(
        state_folder(node.options, instruction.run_folder, instruction.run_name, instruction.task)
    )
