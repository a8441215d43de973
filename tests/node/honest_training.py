"""What a coordinator reads of single images with options of the training alone: its weights are those of round 1."""

from collections.abc import Callable, Mapping
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from fl_app.messages.arrays import Weights
from fl_app.messages.records import TRAIN, WEIGHTS
from fl_app.options.sections import OptionValue
from tests.node.attacks import reader, write_hospital
from tests.node.coordinator import SIDE, Array, Coordinator, Outcome, initial, judge
from tests.node.crafted import HONEST_SEED

Options = Mapping[str, OptionValue]

_SIZE, _NUM_IMAGES = 512, 120
_DESCENT: dict[str, OptionValue] = {
    "classification.optimizer": "sgd", "classification.learning-rate": 1e3, "classification.momentum": 0.0,
    "classification.augment": "", "classification.gradient-clip": 0.0, "classification.lr-schedule": "constant",
    "classification.batch-size": 1000, "classification.keep-optimizer-state": False,
}  # fmt: skip
_PARTS = {"val": {"a": 10, "b": 10}, "test": {"a": 5, "b": 5}}


def unguarded(attack: Callable[[Path, Options], Outcome], folder: Path) -> Outcome:
    """Attack a node that trains on any number of images, in an order that everybody knows."""
    with mock.patch("fl_app.node.client.order_name", lambda secret, task, options: f"{task}-order"):
        return attack(folder, {"min-images": 1})


def one_image_a_round(folder: Path, options: Options) -> Outcome:
    """Let a round be so small a part of an epoch that it trains one image."""
    images = write_hospital(folder, {"a": 60, "b": 60}, _PARTS)["train"]
    step = _moved(
        Coordinator(folder, options, seed=HONEST_SEED, is_patient=False), {"classification.epochs": 1 / _NUM_IMAGES}
    )
    return judge(_image_of(step), images)


def one_image_more(folder: Path, options: Options) -> Outcome:
    """Let a round train on 20 images, and in another run on these and one more; subtract."""
    images = write_hospital(folder, {"a": 60, "b": 60}, _PARTS)["train"]
    coordinator = Coordinator(folder, options, seed=HONEST_SEED, is_patient=False)
    few, more = (_moved(coordinator, {"classification.epochs": number / _NUM_IMAGES}) for number in (20, 21))
    return judge(_image_of({key: 21 * more[key] - 20 * few[key] for key in few if key in more}), images)


def last_batch(folder: Path, options: Options) -> Outcome:
    """Let the last batch of a whole epoch hold one image, which so weighs as much as all others; subtract."""
    images = write_hospital(folder, {"a": 60, "b": 60}, _PARTS)["train"]
    coordinator, small = (
        Coordinator(folder, options, seed=HONEST_SEED, is_patient=False),
        {"classification.learning-rate": 1e-3},
    )
    rest = _NUM_IMAGES - 1
    whole, parted = (_moved(coordinator, {"classification.batch-size": n, **small}) for n in (_NUM_IMAGES, rest))
    step = {key: (parted[key] - whole[key] * _NUM_IMAGES / rest) * rest / (rest - 1) for key in whole if key in parted}
    return judge(_image_of(step), images)


def two_batch_sizes(folder: Path, options: Options) -> Outcome:
    """Let the batch after the first one hold 20 images, and in another run these and one more; subtract."""
    images = write_hospital(folder, {"a": 60, "b": 60}, _PARTS)["train"]
    coordinator = Coordinator(folder, options, seed=HONEST_SEED, is_patient=False)
    sizes = (_NUM_IMAGES, 100, 99)
    steps = [
        _moved(coordinator, {"classification.batch-size": size, "classification.learning-rate": 1e-3}) for size in sizes
    ]
    if not all(steps):
        return judge([], images)
    total = {key: value * _NUM_IMAGES for key, value in steps[0].items()}
    second = [
        {key: (step[key] - total[key] / size) / (1 / (_NUM_IMAGES - size) - 1 / size) for key in total}
        for step, size in zip(steps[1:], sizes[1:], strict=True)
    ]
    return judge(_image_of({key: second[1][key] - second[0][key] for key in total}), images)


def _moved(coordinator: Coordinator, options: Options) -> dict[str, Array]:
    """Return by how much a first round moves each weight, per unit of step size; empty if the node refuses."""
    chosen: dict[str, OptionValue] = {**_DESCENT, "classification.epochs": 1.0, **options}
    config = coordinator.config(_SIZE, chosen)
    sent: Weights = initial(config)
    answer = coordinator.ask(TRAIN, {WEIGHTS: sent}, chosen)
    if not answer:
        return {}
    after, rate = answer[WEIGHTS], config.classification.learning_rate
    return {key: (sent[key].astype(np.float64) - after[key].astype(np.float64)) / rate for key in sent}


def _image_of(step: Mapping[str, Array]) -> list[Array]:
    """Return the image of a single gradient: a linear layer's is (error) x (input), and its bias's is the error."""
    if not step:
        return []
    network = reader(_SIZE, is_honest=True)
    error = step[f"{network.hidden}.bias"]
    found = error @ step[f"{network.hidden}.weight"] / (error @ error)
    start = network.inverse @ np.append(found, 1.0)
    front = torch.nn.Sequential(*list(network.network.features.children())[:-2])
    picture = torch.tensor(start, dtype=torch.float32).view(1, 1, SIDE, SIDE).clamp(-1, 1).requires_grad_()
    wanted = torch.tensor(found, dtype=torch.float32)
    optimizer = torch.optim.Adam([picture], lr=0.02)
    for _ in range(1000):
        optimizer.zero_grad()
        (front(picture).flatten() - wanted).square().sum().backward()
        optimizer.step()
    return [start, picture.detach().numpy().ravel().astype(np.float64)]
