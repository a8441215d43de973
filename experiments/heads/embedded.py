"""Running a cell, and the embeddings of all images that its classifier is judged by."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.local_grid import run_federation
from experiments.heads import pixels
from experiments.heads.plan import NUM_STRANGE, Cell
from experiments.heads.tops import write_tops
from fl_app.classification.heads import build_heads, linear_head
from fl_app.classification.model import ClassifierModel, read_classifier
from fl_app.classification.moments import measure_moments, pool
from fl_app.classification.network import build_network, embed
from fl_app.data.images import ImageSet, no_images
from fl_app.data.loading import to_float
from fl_app.data.sources import dataset_info, load_parts, load_split
from fl_app.errors import FederationError, RunFolderError
from fl_app.node.images import load_local, share_out
from fl_app.options.node import NodeConfig
from fl_app.options.run import RunConfig
from fl_app.runs.run_json import read_document
from fl_app.seeding import numpy_generator_for

STRANGE = ("uniform noise", "Gaussian noise", "black", "grey", "white", "another data set")

_BATCH_SIZE = 500


@dataclass(frozen=True)
class Embedded:
    """A finished classifier and the embeddings of images under it.

    Attributes:
        classifier: network, sums and heads.
        validation: [V, D] float64, of the held-out images.
        validation_labels: [V] int64.
        sites: [V] int64, the node that holds the image out; zeros if the run does not tell.
        test: [T, D] float64, of the test images.
        test_labels: [T] int64.
        strange: [S, D] float64 by name, of images that should get no answer.
        pixels: `pixels.distances` of `validation`, `test` and the strange images, by name.
    """

    classifier: ClassifierModel
    validation: NDArray[np.float64]
    validation_labels: NDArray[np.int64]
    sites: NDArray[np.int64]
    test: NDArray[np.float64]
    test_labels: NDArray[np.int64]
    strange: dict[str, NDArray[np.float64]]
    pixels: dict[str, NDArray[np.float64]]


def run_cell(cell: Cell, out: Path) -> None:
    """Train the cell's classifier and embed its images; does nothing if that is done.

    Raises:
        FlAppError: the run could not start, or did not train every round.
    """
    if is_finished(cell, out):
        return
    config = cell.config(out)
    if not _checkpoint(cell, out).exists():
        if cell.data == "tops":
            write_tops(cell.npz_folder(out), cell.seed)
        with contextlib.suppress(FederationError):  # "nothing was learned" by the last layer: heads may have
            run_federation(config, cell.num_nodes)
    classifier = _classifier(cell, out)
    held_out, test = _held_out(cell, config), load_split(config.data, "test", cell.seed)
    arrays = {"validation-labels": held_out.labels.numpy(), "test-labels": test.labels.numpy()}
    groups = {"validation": held_out.images, "test": test.images, **dict(_strange(cell, config))}
    arrays |= {name: _embed(classifier, images) for name, images in groups.items()}
    np.savez(_file(cell, out), allow_pickle=False, **arrays)


def is_finished(cell: Cell, out: Path) -> bool:
    """Tell whether `run_cell` has done its work."""
    return _file(cell, out).exists()


def read_cell(cell: Cell, out: Path) -> Embedded:
    """Read what `run_cell` wrote."""
    with np.load(_file(cell, out)) as arrays:
        return Embedded(
            classifier=_classifier(cell, out),
            validation=arrays["validation"].astype(np.float64),
            validation_labels=arrays["validation-labels"],
            sites=site_of_each(cell, out, arrays["validation-labels"]),
            test=arrays["test"].astype(np.float64),
            test_labels=arrays["test-labels"],
            strange={name: arrays[name].astype(np.float64) for name in STRANGE},
            pixels=_pixels(cell, out),
        )


def _pixels(cell: Cell, out: Path) -> dict[str, NDArray[np.float64]]:
    """Measure the pictures themselves, and remember the result."""
    file = out / cell.name / "pixels.npz"
    if not file.exists():
        config = cell.config(out)
        train = np.concatenate([pixels.statistics(load_local(config, node).train.images) for node in _nodes(cell)])
        test = load_split(config.data, "test", cell.seed)
        groups = {"validation": _held_out(cell, config).images, "test": test.images}
        groups |= dict(_strange(cell, config))
        sums = (len(train), train.sum(axis=0), train.T @ train)
        np.savez(
            file,
            allow_pickle=False,
            **{name: pixels.distances(pixels.statistics(one), *sums) for name, one in groups.items()},
        )
    with np.load(file) as arrays:
        return dict(arrays)


def _classifier(cell: Cell, out: Path) -> ClassifierModel:
    """Return a run's classifier; a run that ended without exporting one left the weights of its last round."""
    folder, config = out / cell.name / "classification", cell.config(out)
    if (folder / "model").exists():
        return read_classifier(folder / "model")
    options, info = config.classification, dataset_info(config.data)
    checkpoint = _checkpoint(cell, out)
    if not checkpoint.exists():
        raise RunFolderError(f"{folder} holds neither a model nor a checkpoint of round {options.num_rounds}.")
    weights = load_file(checkpoint / "raw.safetensors")
    network = build_network(info, options.network, options.embedding_size)
    network.load_state_dict(weights)
    pooled = pool(measure_moments(network, part, torch.device("cpu"), 0) for part in _trained_on(cell, config, out))
    layer = [weights[f"linear.{name}"].double().numpy() for name in ("weight", "bias")]
    heads = {"linear": linear_head(layer[0], layer[1], (pooled["count"] > 0).tolist())}
    heads |= build_heads(pooled, options.shrinkage)[0]
    size, shrinkage = options.embedding_size, options.shrinkage
    return ClassifierModel(
        options.network, size, info, weights, pooled, heads, "linear", "consistent", shrinkage, None, {}
    )


def _trained_on(cell: Cell, config: RunConfig, out: Path) -> list[ImageSet]:
    """Return the images that each node of a run trained on, shared out as they were then.

    Raises:
        RunFolderError: the nodes said something else of their images.
    """
    parts = load_parts(config.data, cell.seed, ("train", "validation"))
    if not _counts(cell, out, "validation").any():
        parts["validation"] = no_images(dataset_info(config.data))
    images = [train for train, _ in share_out(parts, cell.num_nodes, config.partition, cell.seed)]
    found = [np.bincount(one.labels.numpy(), minlength=len(one.class_names)) for one in images]
    if not np.array_equal(found, _counts(cell, out, "train")):
        raise RunFolderError(f"{out / cell.name}: run.json tells of other training images than are shared out today.")
    return images


def _counts(cell: Cell, out: Path, part: str) -> NDArray[np.int64]:
    """Return how many images of each class the nodes said that a part of theirs has: [nodes, K]."""
    nodes = read_document(out / cell.name).nodes
    return np.array([nodes[f"site-{number}"][part] for number in range(cell.num_nodes)])


def _checkpoint(cell: Cell, out: Path) -> Path:
    number = cell.config(out).classification.num_rounds
    return out / cell.name / "classification" / "checkpoints" / f"round-{number:04d}"


def _nodes(cell: Cell) -> list[NodeConfig]:
    own = [{"partition-id": number, "num-partitions": cell.num_nodes} for number in range(cell.num_nodes)]
    return [NodeConfig.from_flat(options) for options in own]


def _file(cell: Cell, out: Path) -> Path:
    return out / cell.name / "embedded.npz"


def site_of_each(cell: Cell, out: Path, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which node holds each held-out image out, [V], by what the nodes said of their images.

    Args:
        cell: of the run.
        out: folder of the run folders.
        labels: [V] int64, of the held-out images, one node after the other.

    Returns:
        Zeros if the nodes held no image out: runs of an earlier version left the part `val` of BreastMNIST and of
        `tops` to this experiment.

    Raises:
        RunFolderError: the nodes said something else of these images.
    """
    counts = _counts(cell, out, "validation")
    if not counts.any():
        return np.zeros(len(labels), dtype=np.int64)
    sites = np.repeat(np.arange(len(counts)), counts.sum(axis=1))
    found = np.zeros_like(counts)
    if len(sites) == len(labels):
        np.add.at(found, (sites, labels), 1)
    if not np.array_equal(found, counts):
        raise RunFolderError(f"{_file(cell, out)} holds other held-out images than run.json beside it tells of.")
    return sites


def _held_out(cell: Cell, config: RunConfig) -> ImageSet:
    """Return the images that the nodes hold out, one node after the other."""
    parts = [load_local(config, node).validation for node in _nodes(cell)]
    images, labels = torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts])
    return ImageSet(images, labels, parts[0].class_names)


def _strange(cell: Cell, config: RunConfig) -> Iterator[tuple[str, Tensor]]:
    """Yield images that are of no class, uint8 [S, 1, H, W], by the names of STRANGE."""
    size = dataset_info(config.data).image_size
    shape, generator = (NUM_STRANGE, 1, size, size), numpy_generator_for(cell.seed, "strange")
    yield "uniform noise", torch.from_numpy(generator.integers(0, 256, shape, dtype=np.uint8))
    normal = generator.normal(127.5, 50.0, shape).round().clip(0, 255)
    yield "Gaussian noise", torch.from_numpy(normal.astype(np.uint8))
    for name, level in (("black", 0), ("grey", 128), ("white", 255)):
        yield name, torch.full((1, 1, size, size), level, dtype=torch.uint8)
    other = load_split(config.data.model_copy(update={"source": cell.other_data, "directory": ""}), "test", cell.seed)
    yield "another data set", other.images[generator.permutation(len(other))[:NUM_STRANGE]]


def _embed(classifier: ClassifierModel, images: Tensor) -> NDArray[np.float32]:
    network = classifier.build_network()
    with torch.no_grad():
        found = [embed(network, to_float(part)) for part in images.split(_BATCH_SIZE)]
    return np.concatenate(found).astype(np.float32)  # as the network computes them
