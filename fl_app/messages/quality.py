"""The message that carries generated images to a node, which compares them with its own real ones."""

from dataclasses import dataclass, field

import numpy as np
import torch
from flwr.app import ConfigRecord, Message, RecordDict
from numpy.typing import NDArray

from fl_app.data.images import ImageSet
from fl_app.messages.arrays import Weights, array_record, unpack
from fl_app.messages.records import CONFIG, WEIGHTS, Instruction, read_instruction, reading, text

QUALITY = "query.quality"

_GENERATED = "generated"
_NETWORK = "network"
_MEASURED = "measured"


@dataclass(frozen=True)
class Generated:
    """What a node is asked to measure.

    Attributes:
        measured: a feature network, `pixels`, `classifier`, `inception` or `file`; `usefulness`; or `curve`: moments of
            real images, with which the server compares what it draws during the training.
        images: [N, C, H, W] uint8.
        labels: [N] int64, the class that each was drawn as.
        instruction: the task, its last round, the run, and the weights that make the features; empty: none do.
        network_file: the bytes of a safetensors file, [M] uint8; empty: the network has no file.
    """

    measured: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    instruction: Instruction
    network_file: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, dtype=np.uint8))

    def image_set(self, class_names: tuple[str, ...]) -> ImageSet:
        """Return the images as a set; raises DataError if shapes or labels do not fit."""
        return ImageSet(torch.from_numpy(self.images.copy()), torch.from_numpy(self.labels.copy()), class_names)


def write_generated(
    asked: ConfigRecord,
    measured: str,
    images: ImageSet,
    weights: Weights,
    network_file: NDArray[np.uint8] | None = None,
) -> RecordDict:
    """Return the content of the message.

    Args:
        asked: an instruction's config record, of the task's last round.
        measured: see `Generated`.
        images: generated ones.
        weights: of the network that makes the features; empty: none.
        network_file: see `Generated`.
    """
    config = {**asked, _MEASURED: measured}
    content = RecordDict(
        {
            CONFIG: ConfigRecord(config),
            WEIGHTS: array_record(weights),
            _GENERATED: array_record({"images": images.images.cpu().numpy(), "labels": images.labels.cpu().numpy()}),
        }
    )
    if network_file is not None:
        content[_NETWORK] = array_record({"file": network_file})
    return content


def read_generated(message: Message) -> Generated:
    """Read the message, whose arrays are packed; raises OptionError if it is damaged."""
    instruction = read_instruction(message)
    with reading(message):
        arrays = message.content.array_records
        found, network = unpack(arrays[_GENERATED]), arrays.get(_NETWORK)
        images, labels = found["images"], found["labels"]
        if images.dtype != np.uint8 or labels.dtype != np.int64:
            raise TypeError(f"{images.dtype}, {labels.dtype}")
        return Generated(
            text(message.content.config_records[CONFIG][_MEASURED]),
            images.astype(np.uint8),
            labels.astype(np.int64),
            instruction,
            np.zeros(0, dtype=np.uint8) if network is None else unpack(network)["file"].astype(np.uint8),
        )
