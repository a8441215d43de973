"""The attacks of a curious coordinator on a hospital's images; each returns its outcome."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from fl_app.messages.arrays import Weights, to_numpy
from fl_app.messages.records import EVALUATE, MOMENTS, TRAIN
from fl_app.options.sections import OptionValue
from tests.node.coordinator import (
    CLASSES,
    NUM_PIXELS,
    SIDE,
    Array,
    Coordinator,
    Outcome,
    Pictures,
    judge,
    make_pictures,
    write_npz,
    write_pictures,
)
from tests.node.crafted import HONEST_SEED, Reader, mask, through_gate

Options = Mapping[str, OptionValue]
_Model = tuple[Array, float, int, float]  # row, offset, the class that is scored by it, and times what

_STEP: dict[str, OptionValue] = {  # one step of gradient descent on all images
    "classification.optimizer": "sgd", "classification.learning-rate": 1e4, "classification.momentum": 0.0,
    "classification.batch-size": 100_000, "classification.epochs": 1.0, "classification.augment": "",
    "classification.gradient-clip": 0.0, "classification.lr-schedule": "constant",
    "classification.keep-optimizer-state": False,
}  # fmt: skip
_NPZ_PARTS = {"train": {"a": 40, "b": 40}, "val": {"a": 10, "b": 10}, "test": {"a": 5, "b": 5}}
_SMALL = 0.05  # times the pixels, so that the weights are not far from honest ones
_OWN_PARTS = {"val": {"a": 10, "b": 10}, "test": {"a": 5, "b": 5}}


@functools.cache
def reader(size: int = NUM_PIXELS, *, is_honest: bool = False, side: int = SIDE) -> Reader:
    """Return a network of a size, fitted once."""
    return Reader(size, is_honest=is_honest, side=side)


def write_hospital(
    folder: Path, train: Mapping[str, int], parts: Mapping[str, Mapping[str, int]]
) -> dict[str, Pictures]:
    """Write a hospital's images in parts of its own; return them."""
    found = {part: make_pictures(counts, seed) for seed, (part, counts) in enumerate({"train": train, **parts}.items())}
    for part, pictures in found.items():
        write_pictures(folder / "sites" / "north" / part, pictures)
    return found


def class_of_one(folder: Path, options: Options, *, is_patient: bool = True) -> Outcome:
    """Sum the embeddings of a class with one image; the embedding is the image."""
    images = write_hospital(folder, {"a": 30, "b": 30, "c": 1}, _OWN_PARTS)["train"]
    return judge(list(_class_sums(Coordinator(folder, options, is_patient=is_patient)).values()), images)


def subtraction(folder: Path, options: Options, *, is_simulated: bool = False) -> Outcome:
    """Ask twice, with other options of the run, and subtract; a class has six images."""
    pictures = make_pictures({"a": 60, "b": 60, "c": 6})
    write_pictures(folder / "sites" / "north", pictures)
    coordinator = Coordinator(folder, options, is_simulated=is_simulated)
    changes: list[dict[str, OptionValue]] = [
        {}, {"data.limit": 40}, {"data.limit": 39}, {"seed": 1}, {"seed": 2, "data.limit": 6}, {"data.limit": 1},
        {"data.validation-share": 0.5}, {"data.test-share": 0.0}, {"data.test-share": 0.19},
        {"data.class-names": "c,b,a"}, {"data.class-names": "a,b"}, {"data.class-names": "c"},
        {"partition.min-class-count": 1, "partition.min-images": 1}, {"data.image-size": SIDE // 2},
    ]  # fmt: skip
    answers = [_class_sums(coordinator, change) for change in changes]
    found = [answer[name] for answer in answers for name in answer]
    found += [one[name] - other[name] for one in answers for other in answers for name in set(one) & set(other)]
    trained = [
        _gradient_sums(coordinator, *_whole(), _STEP | change)[0]
        for change in changes
        if "data.image-size" not in change
    ]
    found += [one - other for one in trained for other in trained]
    return judge(found, pictures)


def growing_folder(folder: Path, options: Options, *, forgets: bool = False) -> Outcome:
    """Ask before and after an image came, and after it left again, and subtract; sums and training replies."""
    first = write_hospital(folder, {"a": 40, "b": 40}, _OWN_PARTS)["train"]
    more = make_pictures({"a": 1}, seed=9)
    coordinator = Coordinator(folder, options)

    def ask() -> list[Array]:
        if forgets:
            coordinator.forget()
        sums = list(_class_sums(coordinator).values())
        if forgets:
            coordinator.forget()
        return [*sums, sum(sums, np.zeros(NUM_PIXELS)), _gradient_sums(coordinator, *_whole(), _STEP)[0]]

    def add() -> None:
        write_pictures(coordinator.images / "train", more, start=40)

    def remove() -> None:
        (coordinator.images / "train" / "a" / "007.png").unlink()

    answers = [ask()]
    for change in (add, remove):
        change()
        answers.append(ask())
    found = [one - other for ones in answers for others in answers for one, other in zip(ones, others, strict=False)]
    return judge(found, {**first, "a": np.concatenate([first["a"], more["a"]])})


def renamed_classes(folder: Path, options: Options, *, forgets: bool = False) -> Outcome:
    """Ask again once an image came, and call the classes of the hospital's npz by other names."""
    parts = {part: make_pictures(counts, seed) for seed, (part, counts) in enumerate(_NPZ_PARTS.items())}
    coordinator = Coordinator(folder, options)
    answers = []
    for names in ("a,b,c", "x,y,z"):
        write_npz(coordinator.images, parts)
        if forgets:
            coordinator.forget()
        answers.append(list(_class_sums(coordinator, {"data.class-names": names}).values()))
        parts["train"] = {**parts["train"], "a": np.concatenate([parts["train"]["a"], make_pictures({"a": 1}, 9)["a"]])}
    return judge([after - before for before, after in zip(*answers, strict=False)], parts["train"])


def gate(folder: Path, options: Options, *, is_patient: bool = True) -> Outcome:
    """Let the embedding be zero for all images of a class but one: the one that is brightest under a random mask."""
    images = write_hospital(folder, {"a": 60, "b": 60}, _OWN_PARTS)["train"]
    coordinator = Coordinator(folder, options, is_patient=is_patient)

    def sums(rows: Array, offsets: Array) -> Array:
        answer = coordinator.ask(MOMENTS, {"weights": reader().weights(_SMALL * rows, _SMALL * offsets)})
        return np.asarray(answer["statistics"]["sum"][0] / _SMALL if answer else np.zeros(NUM_PIXELS))

    return judge([through_gate(sums)], images)


def near_honest_weights(folder: Path, options: Options, at_once: int = 4) -> Outcome:
    """The same with an honest network, of whose 512 coordinates only a few carry something else in each message.

    A ReLU lets a coordinate be as small as one likes. So the weights change by less than in a round of honest training.
    """
    images = write_hospital(folder, {"a": 60, "b": 60}, _OWN_PARTS)["train"]
    coordinator, network = Coordinator(folder, options, seed=HONEST_SEED), reader(512, is_honest=True)
    honest = to_numpy(network.network.state_dict())
    trained = coordinator.train_first(honest)

    def sums(rows: Array, offsets: Array) -> Array:
        found = []
        small = 0.1 / np.linalg.norm((rows @ network.inverse)[:, :-1], axis=1)
        for start in range(0, len(rows), at_once):
            part = slice(start, start + at_once)
            sent = network.weights(small[part, None] * rows[part], small[part] * offsets[part])
            if _distance(sent, honest) >= _distance(trained, honest):
                raise ValueError("these weights are not near honest ones")
            answer = coordinator.ask(MOMENTS, {"weights": sent})
            found.append(answer["statistics"]["sum"][0, :at_once] if answer else np.zeros(at_once))
        return np.asarray(np.concatenate(found) / small)

    return judge([through_gate(sums, num_thresholds=64)], images)


def imprint(folder: Path, options: Options, *, agreed: bool = False, is_patient: bool = True) -> Outcome:
    """Train for one step on 20 images with a first layer of thresholds (Fowl et al. 2022, "Robbing the Fed").

    Args:
        folder: of the hospital.
        options: of the node.
        agreed: the run has its default options, as a study could state them; else those of plain gradient descent.
            The gradients are then so small that Adam's step, g / (|g| + 1e-8), is in proportion to them.
        is_patient: see `Coordinator`.
    """
    images = write_hospital(folder, {"a": 10, "b": 10}, _OWN_PARTS)["train"]
    size, scale = (128, 1e-2) if agreed else (NUM_PIXELS, 0.1)
    rows, offsets = scale * np.tile(mask(), (size, 1)), -scale * np.linspace(-6.0, 6.0, size)
    last = np.zeros((len(CLASSES), size))
    last[0] = 1e-9 if agreed else 1e-3
    found = _gradient_sums(
        Coordinator(folder, options, is_patient=is_patient), rows, offsets, last, {} if agreed else _STEP
    )
    return judge(list(found[:-1] - found[1:]), images)


def held_out_of_one(folder: Path, options: Options) -> Outcome:
    """Measure the loss of a held-out set with one image; the loss is a pixel."""
    images = write_hospital(folder, {"a": 30, "b": 30}, {"val": {"a": 1}, "test": {"a": 5, "b": 5}})["val"]
    found = _measured(Coordinator(folder, options), _pixels(), lambda sums: float(sums["nll"]))
    return judge([found, -found], images)


def held_out_class_of_one(folder: Path, options: Options) -> Outcome:
    """Measure the score of a class with one held-out image among twenty; the score is a pixel."""
    parts = {**_OWN_PARTS, "val": {"a": 10, "b": 9, "c": 1}}
    images = write_hospital(folder, {"a": 30, "b": 30, "c": 30}, parts)["val"]
    found = _measured(
        Coordinator(folder, options), _pixels(class_number=2), lambda sums: sums["auroc"][:, 2, 1, 1].sum()
    )
    return judge([found], images)


def held_out_gate(folder: Path, options: Options, *, is_patient: bool = True) -> Outcome:
    """Let the loss depend on one of twenty held-out images, the brightest under a random mask, and measure it."""
    images = write_hospital(folder, {"a": 30, "b": 30}, _OWN_PARTS)["val"]
    coordinator = Coordinator(folder, options, is_patient=is_patient)

    def sums(rows: Array, offsets: Array) -> Array:
        small = 1.0 / np.linalg.norm((rows @ reader().inverse)[:, :-1], axis=1)
        models = [
            (factor * row, float(factor * offset), 0, 1e-4 / float(factor))
            for row, offset, factor in zip(rows, offsets, small, strict=True)
        ]
        losses = _measured(coordinator, models, lambda sums: float(sums["nll"] - sums["nll-count"] * np.log(3.0)))
        return losses * 1e4

    found = through_gate(sums, num_thresholds=64)
    return judge([found, -found], images)


# Parts of the attacks.


def _class_sums(coordinator: Coordinator, options: Options | None = None) -> dict[str, Array]:
    """Return the sum of the images of each class that the moments tell, [P] of pixels in [-1, 1] plus a constant."""
    side = int(str((options or {}).get("data.image-size", SIDE)))
    names = str((options or {}).get("data.class-names", ",".join(CLASSES))).split(",")
    size = side * side
    weights = reader(size, side=side).weights(_SMALL * np.eye(size), np.full(size, _SMALL * 1.5))
    weights |= {
        name: np.zeros((len(names), *weights[name].shape[1:]), np.float32) for name in ("linear.weight", "linear.bias")
    }
    answer = coordinator.ask(MOMENTS, {"weights": weights}, options)
    found = list(answer["statistics"]["sum"]) if answer else []
    return {
        name: np.kron(one.reshape(side, side), np.ones((SIDE // side, SIDE // side))).ravel()
        for name, one in zip(names, found, strict=False)
    }


def _gradient_sums(coordinator: Coordinator, rows: Array, offsets: Array, last: Array, options: Options) -> Array:
    """Train for one step; return the sums over images of (gradient before the ReLU) x (image), [R, P]."""
    network = reader(last.shape[1])
    names = str(options.get("data.class-names", ",".join(CLASSES))).split(",")
    sent = network.weights(rows, offsets, last[: len(names)])
    answer = coordinator.ask(TRAIN, {"weights": sent}, options)
    if not answer:
        return np.zeros((len(rows), NUM_PIXELS))
    steps = [
        sent[f"{network.hidden}.{key}"].astype(float) - answer["weights"][f"{network.hidden}.{key}"]
        for key in ("weight", "bias")
    ]
    return np.hstack([steps[0], steps[1][:, None]])[: len(rows)] @ network.inverse.T


def _measured(coordinator: Coordinator, models: Sequence[_Model], figure: Callable[[Weights], float]) -> Array:
    """Return a figure of the held-out images for each model, a message each."""
    found: list[float] = []
    for row, offset, class_number, scale in models:
        last = np.zeros((len(CLASSES), NUM_PIXELS))
        last[class_number, 0] = scale
        answer = coordinator.ask(EVALUATE, {"weights": reader().weights(row[None], np.array([offset]), last)})
        sums = {key.removeprefix("raw/"): value for key, value in answer.get("statistics", {}).items()}
        found.append(figure(sums) if sums else 0.0)
    return np.array(found)


def _pixels(class_number: int = 0) -> list[_Model]:
    """Return models that score a class by one pixel, from 0.15 below the others' score to 0.15 above."""
    return [(row, 1.5, class_number, 0.15) for row in np.eye(NUM_PIXELS)]


def _whole() -> tuple[Array, Array, Array]:
    """Return rows, offsets and last layer whose gradient is the sum of all images, each times its error."""
    last = np.zeros((len(CLASSES), NUM_PIXELS))
    last[0, 0] = 1e-3
    return np.zeros((1, NUM_PIXELS)), np.ones(1), last


def _distance(one: Weights, other: Weights) -> float:
    return float(np.sqrt(sum(np.square(one[name].astype(float) - other[name]).sum() for name in other)))
