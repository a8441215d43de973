"""Images that a node draws with the run's diffusion model, for classes that it lacks: drawn once, kept on disk."""

import fcntl
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from fl_app.classification.balancing import Balanced, Replay, missing_images, oversampled, surest
from fl_app.classification.network import Classifier
from fl_app.classification.task import ClassificationTask
from fl_app.data.images import ImageSet
from fl_app.data.loading import iterate, place
from fl_app.errors import RunFolderError
from fl_app.files import make_private, replacing, write_text
from fl_app.messages.records import Instruction
from fl_app.messages.replay import DRAW
from fl_app.node.answering import Node
from fl_app.node.exchanged import Sums
from fl_app.node.history import check_weights
from fl_app.node.permissions import NotAllowedError
from fl_app.node.state import RunFile, digest, state_base, state_folder
from fl_app.tasks import Task, build_task

if TYPE_CHECKING:  # importing it costs a node of a classifier seconds
    from fl_app.diffusion.task import DiffusionTask

log = logging.getLogger(__name__)

_AT_ONCE = 64  # images of a class between two looks at the clock


def draw_missing(instruction: Instruction, held: Sequence[bool], node: Node) -> Sums:
    """Draw images of the classes that the node lacks or holds few of; keep them, and what they were drawn from.

    Args:
        instruction: with the weights of the exported diffusion model.
        held: of each class, whether any site has a training image of it; others are not drawn.
        node: with its images.

    Returns:
        `drawn`: the images of each class that are there now, [K].

    Raises:
        NotAllowedError: the run's options do not lead to this, or the weights are not near those that it has seen.
    """
    options = node.config.classification
    if options.replay != "generated" or instruction.task != "diffusion":
        raise NotAllowedError(
            "this node was asked to draw images for classes that it lacks, and the run's options do not lead to this. "
            "Set 'classification.replay' to generated"
        )
    task = cast("DiffusionTask", build_task("diffusion", node.config, node.info))
    check_weights(task, node, instruction, DRAW)
    counts = node.data.train.class_counts().numpy()
    missing = np.where(held, missing_images(counts, options.replay_ratio, options.replay_images), 0)
    folder, named = _folder(node, instruction), digest(instruction.weights)[:16]
    known = _noted(node, instruction)
    if known is not None and known[0] == named:
        return {"drawn": np.array(known[1], dtype=np.float64)}
    make_private(state_base(node.options, instruction.run_folder))
    make_private(folder)
    model = task.build_model()
    model.load_state_dict(instruction.weights)
    model.to(node.device)
    started = time.monotonic()
    drawn = np.zeros_like(missing)
    while (drawn < missing).any() and time.monotonic() - started < options.replay_seconds:
        for label in np.flatnonzero(drawn < missing):
            if time.monotonic() - started < options.replay_seconds:
                wanted = min(int(missing[label]), int(drawn[label]) + _AT_ONCE)
                drawn[label] = _extend(folder, named, int(label), wanted, task, model)
    drawn = np.minimum(drawn, missing)
    write_text(_note(node, instruction), json.dumps({"weights": named, "drawn": drawn.tolist()}))
    seconds = time.monotonic() - started
    log.info("Drew images for classes with few: %d in %.1f s, %d are missing", drawn.sum(), seconds, missing.sum())
    return {"drawn": drawn.astype(np.float64)}


def balance(
    node: Node, instruction: Instruction, task: Task, network: nn.Module
) -> tuple[Task | Balanced, Replay | None]:
    """Return the objective of a training, and the images to train on beside the node's own.

    Args:
        node: with its images.
        instruction: of the training.
        task: of the pass.
        network: with the received weights, on the device.
    """
    if not isinstance(task, ClassificationTask) or task.plan.is_pooled:
        return task, None
    options, train, fewest = task.options, node.data.train, node.options.min_class_count
    if options.replay == "generated":
        return task, replay_of(node, instruction, task, cast(Classifier, network))
    if options.replay == "oversample":
        return task, oversampled(train, options.replay_ratio, fewest)
    if options.replay in ("class-weights", "logit-adjusted"):
        return Balanced(task, train.class_counts().numpy(), fewest), None
    return task, None


def replay_of(node: Node, instruction: Instruction, task: ClassificationTask, network: Classifier) -> Replay | None:
    """Return the drawn images to train on beside the node's own; None: there are none.

    Args:
        node: with its images.
        instruction: of the training; after round 1 its weights choose the images.
        task: of the pass.
        network: with the received weights, on the device.
    """
    noted = _noted(node, instruction)
    if noted is None:
        log.warning("This node has drawn no images for classes that it lacks: it trains on its own alone")
        return None
    named, drawn = noted
    folder = _folder(node, instruction)
    shape = node.data.train.images.shape[1:]
    parts = [_read(folder, named, label)[:count].reshape(-1, *shape) for label, count in enumerate(drawn)]
    labels = torch.cat([torch.full((len(part),), label) for label, part in enumerate(parts)])
    found = ImageSet(torch.cat(parts), labels.long(), node.info.class_names)
    if len(found) == 0:
        return None
    per_own = len(found) / len(node.data.train)
    if instruction.round_number > 1:
        found = found.select(
            torch.from_numpy(surest(_sure(network, found, node), labels.numpy(), task.options.replay_kept))
        )
    return Replay(place(found, node.device), per_own)


@torch.no_grad()
def _sure(network: Classifier, images: ImageSet, node: Node) -> NDArray[np.float64]:
    """Return the probability of each image's own class: [N]."""
    network.eval()
    found = [
        network(batch.images).softmax(dim=1).gather(1, batch.labels[:, None])[:, 0].double().cpu().numpy()
        for batch in iterate(images, 256, node.device)
    ]
    return np.concatenate(found)


def _extend(folder: Path, named: str, label: int, wanted: int, task: "DiffusionTask", model: nn.Module) -> int:
    """Draw images of a class until there are so many; return how many there are.

    Other simulated nodes, which share the folder, wait for as long, so that each image is drawn once.
    """
    with RunFile.DRAWN_LOCK.path(folder, f"{named}-{label:04d}").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        known = _read(folder, named, label)
        if len(known) >= wanted:
            return len(known)
        drawn = task.draw_images(model, np.full(wanted - len(known), label), len(known))
        if drawn is None:
            raise NotAllowedError(
                "the diffusion model draws images that are not finite numbers: this node adds none of them. Train it "
                "with a lower learning rate"
            )
        known = torch.cat([known.reshape(-1, *drawn.images.shape[1:]), drawn.images])
        try:
            with replacing(_path(folder, named, label), mode=0o600) as temporary:
                save_file({"images": known.contiguous()}, temporary)
        except RunFolderError as error:
            raise NotAllowedError(
                f"{error} So no generated images can be kept. Make room in 'state-dir'.",
                public="this node cannot keep generated images: its 'state-dir' must be writable",
            ) from error
        return len(known)


def _noted(node: Node, instruction: Instruction) -> tuple[str, list[int]] | None:
    """Return the weights that the node has drawn with, and how many images of each class; None if it has not."""
    try:
        note = json.loads(_note(node, instruction).read_text())
        return str(note["weights"]), [int(count) for count in note["drawn"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(folder: Path, named: str, label: int) -> torch.Tensor:
    """Return the images of a class that are kept, [M, C, H, W] uint8; zero images if there are none."""
    path = _path(folder, named, label)
    try:
        return load_file(path)["images"]
    except FileNotFoundError:
        pass
    except (OSError, SafetensorError, KeyError) as error:
        log.warning("%s is damaged (%s): its images are drawn anew", path, error)
    return torch.zeros(0, dtype=torch.uint8)


def _path(folder: Path, named: str, label: int) -> Path:
    return RunFile.DRAWN.path(folder, f"{named}-{label:04d}")


def _folder(node: Node, instruction: Instruction) -> Path:
    """Return where images are kept; simulated nodes share them, since equal images are drawn everywhere."""
    own = state_folder(node.options, instruction.run_folder, instruction.run_name, "diffusion")
    return state_base(node.options, instruction.run_folder) if node.options.is_simulated else own


def _note(node: Node, instruction: Instruction) -> Path:
    return RunFile.REPLAY.path(state_folder(node.options, instruction.run_folder, instruction.run_name, "diffusion"))
