"""A coordinator that asks one hospital whatever it likes, made-up images, and how well they were read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import Message, RecordDict
from numpy.typing import NDArray
from PIL import Image

from fl_app.data.images import DatasetInfo
from fl_app.flower import identify
from fl_app.messages.arrays import Weights, pack, to_numpy, unpack
from fl_app.messages.records import CONFIG, EVALUATE, TRAIN, WEIGHTS, instruction_config
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue
from fl_app.tasks import build_task, initial_weights
from tests.federation import LocalGrid
from tests.options import run_config, write_simulated_key

Array = NDArray[np.float64]
Pictures = dict[str, NDArray[np.uint8]]  # of each class: [N, SIDE, SIDE]

SIDE = 16
NUM_PIXELS = SIDE * SIDE
CLASSES = ("a", "b", "c")
NUM_ROUNDS = 10  # the default; the later the round, the farther its weights may be from the first


def make_pictures(counts: Mapping[str, int], seed: int = 0) -> Pictures:
    """Draw images: a smooth picture of the class plus noise of the image, of half its variance."""
    generator = np.random.default_rng(seed)
    found = {}
    for number, name in enumerate(CLASSES):
        coarse = np.random.default_rng(100 + number).normal(size=(4, 4))
        smooth = np.asarray(Image.fromarray(coarse.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        smooth = (smooth - smooth.mean()) / smooth.std()
        noise = generator.normal(size=(counts.get(name, 0), SIDE, SIDE))
        found[name] = np.clip(128 + 30 * smooth + 30 / np.sqrt(2) * noise, 0, 255).astype(np.uint8)
    return found


def write_pictures(folder: Path, pictures: Pictures, start: int = 0) -> None:
    """Write a folder for each class."""
    for name, images in pictures.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(images, start):
            Image.fromarray(image).save(folder / name / f"{number:03d}.png")


def write_npz(folder: Path, parts: Mapping[str, Pictures]) -> None:
    """Write all parts into one npz of MedMNIST's form, in place of an earlier one."""
    arrays: dict[str, NDArray[np.uint8]] = {}
    for part, pictures in parts.items():
        arrays[f"{part}_images"] = np.concatenate([pictures[name] for name in CLASSES])
        labels = [np.full(len(pictures[name]), number, np.uint8) for number, name in enumerate(CLASSES)]
        arrays[f"{part}_labels"] = np.concatenate(labels)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "images.npz", allow_pickle=False, **arrays)


class Coordinator:
    """Asks one hospital, whose node has the default options, for whatever it likes.

    Args:
        folder: the hospital's images lie in its `sites/north`; the node's `state-dir` is its `state`, with a key that
            is known, so that a test draws the same every time.
        options: further options of the node.
        is_simulated: the node is a simulation's, whose run decides how the images are split.
        seed: of the runs.
        is_patient: it lets the node train in round 1 before it asks for sums, and says that other weights are of a late
            round; else it asks at once, and lets the node train in the first round.
    """

    def __init__(
        self,
        folder: Path,
        options: Mapping[str, OptionValue] | None = None,
        *,
        is_simulated: bool = False,
        seed: int = 0,
        is_patient: bool = True,
    ) -> None:
        self.images = folder / "sites" / "north"
        self.state = write_simulated_key(folder / "state", "north")
        hospital = {"data-path": str(self.images), "site": "north", "state-dir": str(self.state)}
        self.node: dict[str, OptionValue] = {**(options or {}), **({} if is_simulated else hospital)}
        self.simulated: dict[str, OptionValue] = {"data.directory": str(folder / "sites"), "partition.scheme": "sites"}
        if not is_simulated:
            self.simulated = {}
        self.is_guarded = bool(self.node.get("check-weights", not is_simulated))
        self.seed, self.is_patient = seed, is_patient
        self._num_runs = 0
        self._last: tuple[str, RunConfig] | None = None

    def forget(self) -> None:
        """Delete the node's memory of the images that it used, as no coordinator can: to see what it is good for."""
        for path in self.state.glob("used@*"):
            path.unlink()

    def ask(
        self, kind: str, models: Mapping[str, Weights], options: Mapping[str, OptionValue] | None = None
    ) -> dict[str, Weights]:
        """Send a message; return the arrays of the answer by record, none if the node refuses.

        A message is the last one of a run of NUM_ROUNDS rounds, whose weights may be farthest from the first. If the
        node compares weights with earlier ones and is to send sums, it has trained in round 1 before, with the weights
        that the seed gives. Only `evaluate` is answered more than once in a run.

        Args:
            kind: of the message.
            models: `weights` and others, such as `ema`.
            options: of the run.
        """
        config = self.config(len(models[WEIGHTS]["linear.weight"][0]), options)
        is_new = (kind, config) != self._last or kind != EVALUATE
        self._last = (kind, config)
        self._num_runs += is_new
        if is_new and kind != TRAIN and self.is_guarded and self.is_patient:
            self._send(config, TRAIN, {WEIGHTS: initial(config)}, 1)
        late = 0 if kind == EVALUATE else NUM_ROUNDS  # the final measurement has no round
        return self._send(config, kind, models, late if self.is_patient or kind != TRAIN else 1)

    def train_first(self, weights: Weights) -> Weights:
        """Let the node train in round 1 of a run of its own; return the weights that it sends."""
        self._num_runs += 1
        config = self.config(len(weights["linear.weight"][0]))
        return self._send(config, TRAIN, {WEIGHTS: weights}, 1)[WEIGHTS]

    def config(self, embedding_size: int, options: Mapping[str, OptionValue] | None = None) -> RunConfig:
        """Return the options of a run."""
        own = options_of_run(embedding_size) | {"seed": self.seed}
        return run_config({**own, **self.simulated, **(options or {})})

    def _send(
        self, config: RunConfig, kind: str, models: Mapping[str, Weights], round_number: int
    ) -> dict[str, Weights]:
        identify(1, 1)
        grid = LocalGrid(config, 1, node_options={0: self.node})
        content = RecordDict({name: pack(weights) for name, weights in models.items()})
        content[CONFIG] = instruction_config("classification", round_number, f"study-{self._num_runs}", "")
        (key,) = grid.push_messages([Message(content, dst_node_id=1000, message_type=kind)])
        (reply,) = grid.pull_messages([key])
        return (
            {} if reply.has_error() else {name: unpack(record) for name, record in reply.content.array_records.items()}
        )


def options_of_run(embedding_size: int) -> dict[str, OptionValue]:
    """Return the options that all the coordinator's runs have."""
    return {
        "tasks": "classification", "data.source": "folder", "data.class-names": ",".join(CLASSES),
        "data.num-channels": 1, "data.image-size": SIDE, "classification.network": "cnn",
        "classification.num-rounds": NUM_ROUNDS, "classification.embedding-size": embedding_size,
    }  # fmt: skip


def initial(config: RunConfig) -> Weights:
    """Return the weights of round 1."""
    info = DatasetInfo(config.data.class_names, config.data.num_channels, config.data.image_size)
    return to_numpy(initial_weights(build_task("classification", config, info), config.seed))


@dataclass(frozen=True)
class Outcome:
    """How well the best reconstruction shows a single image.

    Attributes:
        correlation: Pearson's, over pixels, of the reconstruction with the image; 0 if nothing was reconstructed.
        of_mean: that of the mean of the image's class with it.
    """

    correlation: float
    of_mean: float

    @property
    def excess(self) -> float:
        """By how much the reconstruction is better than the class mean."""
        return self.correlation - self.of_mean


def judge(reconstructions: Sequence[Array], pictures: Mapping[str, NDArray[np.uint8]]) -> Outcome:
    """Return the outcome for the image that is shown best, compared with its class mean.

    The class mean is that of the given images, or of other images of the class if that is more alike; so a class with
    one image has one, too.

    Args:
        reconstructions: each [P]; one of equal pixels is none.
        pictures: the images that the answers are about.
    """
    given = [_standard(one) for one in reconstructions if np.ptp(one) > 0 and np.isfinite(one).all()]
    others = make_pictures(dict.fromkeys(pictures, 200), seed=99)
    found = []
    for name, images in pictures.items():
        flat = images.reshape(len(images), NUM_PIXELS).astype(float)
        means = [_standard(others[name].reshape(200, NUM_PIXELS).mean(axis=0))]
        means += [_standard(flat.mean(axis=0))] if len(flat) > 1 else []
        for image in map(_standard, flat):
            best = max((float(one @ image) for one in given), default=0.0)
            found.append(Outcome(best, max(float(one @ image) for one in means)))
    return max(found, key=lambda outcome: outcome.excess)


def _standard(picture: Array) -> Array:
    centred = picture - picture.mean()
    return np.asarray(centred / np.linalg.norm(centred))
