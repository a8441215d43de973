"""At the end of a run: images of the exported diffusion model are drawn, and the sites judge them."""

import dataclasses
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from flwr.serverapp import Grid
from numpy.typing import NDArray
from torch import nn

from fl_app.classification.model import ClassifierModel, read_classifier
from fl_app.classification.prediction import classify
from fl_app.data.images import DatasetInfo, ImageSet
from fl_app.data.loading import to_bytes
from fl_app.errors import FlAppError
from fl_app.messages.arrays import Weights, to_numpy
from fl_app.messages.generated import QUALITY, write_generated
from fl_app.metrics.generation import feature_sums
from fl_app.options.quality import FROM_FILE, USEFULNESS
from fl_app.options.run import RunConfig
from fl_app.quality.features import Embedding, Kind, Pixels, open_network, read_file, set_features
from fl_app.quality.figure import TRAINED_ON, Figure
from fl_app.quality.figures import label_figure, quality_figures, usefulness_figures
from fl_app.quality.judging import check_quality, check_usefulness
from fl_app.quality.measuring import blank_quality, num_groups
from fl_app.runs.documents import time_label
from fl_app.runs.folder import RunFolder
from fl_app.runs.quality import QualityDocument, describe_quality, read_quality, write_quality
from fl_app.runs.run_json import held_classes, read_document
from fl_app.runs.status import Status
from fl_app.seeding import seed_for
from fl_app.strategies.node_outcome import NodeOutcome
from fl_app.strategies.outcomes import Traffic
from fl_app.strategies.registry import combine
from fl_app.strategies.resilient import Resilient
from fl_app.strategies.setup import Setup, Sites
from fl_app.strategies.transport import PackedWire
from fl_app.sums import Sums

log = logging.getLogger(__name__)

_PURPOSE = "quality"
_FLOOR_IMAGES = 10  # training images for each generated one


@dataclasses.dataclass(frozen=True)
class Judgement:
    """A run whose generated images are judged.

    Attributes:
        config: every option.
        info: classes, channels and size of the images.
        folder: of the run.
        status: what is told of it.
        sites: that take part.
    """

    config: RunConfig
    info: DatasetInfo
    folder: RunFolder
    status: Status
    sites: Sites

    def floor_share(self) -> float:
        """Return the share of the training images that make the floor: ten times as many as are generated, or all."""
        nodes = read_document(self.folder.path).nodes.values()
        num_train = sum(sum(node["train"]) for node in nodes)
        return min(1.0, _FLOOR_IMAGES * self.config.quality.num_images / max(num_train, 1))


def judge_generated(grid: Grid, run: Judgement) -> None:
    """Draw images of the exported model, let the sites judge them, and write diffusion/quality.json.

    Nothing that goes wrong here ends the run: the model is finished. It is then degraded, with the reason. A resumed
    run whose images are judged already is left alone.
    """
    if not run.config.judged or ((found := read_quality(run.folder.path)) is not None and found.problem is None):
        return
    try:
        write_quality(run.folder.path, _judge(grid, run))
    except FlAppError as error:
        log.error("The generated images could not be judged: %s", error)
        run.status.blemish(f"the generated images could not be judged: {error}")
    except Exception as error:  # the models are there, and this must not cost them
        log.exception("The generated images could not be judged")
        run.status.blemish(f"the generated images could not be judged: {type(error).__name__}")
    for line in describe_quality(run.folder.path):
        log.info("%s", line)


def classes_to_draw(test_counts: NDArray[np.int64], held: list[bool], num_images: int) -> NDArray[np.int64]:
    """Return the class of each image to draw, so that classes are as frequent as among the sites' test images.

    Args:
        test_counts: [K], test images of all sites.
        held: of each class, whether any site has a training image of it; others cannot be drawn.
        num_images: how many.

    Returns:
        [num_images] int64, sorted; empty if there is no test image of a class that is held.
    """
    wanted = np.where(held, test_counts, 0).astype(np.float64)
    if wanted.sum() == 0:
        return np.zeros(0, dtype=np.int64)
    exact = wanted / wanted.sum() * num_images
    counts = np.floor(exact).astype(np.int64)
    largest = np.argsort(counts - exact, kind="stable")  # the largest remainders get what is left
    counts[largest[: num_images - counts.sum()]] += 1
    return np.repeat(np.arange(len(counts)), counts)


def _judge(grid: Grid, run: Judgement) -> QualityDocument:
    from fl_app.diffusion.pipeline import open_pipeline  # diffusers takes seconds to import
    from fl_app.diffusion.sampling import steps_of

    started, config, folder = time.monotonic(), run.config, run.folder.path
    counts = np.zeros(len(run.info.class_names), dtype=np.int64)
    for node in read_document(folder).nodes.values():
        counts += node["test"]
    labels = classes_to_draw(counts, held_classes(folder), config.quality.num_images)
    np.bincount(labels, minlength=len(counts)).tolist()
    pipeline = open_pipeline(folder / "diffusion" / "model")
    document = QualityDocument(
        round=config.diffusion.num_rounds,
        seed=seed_for(config.seed, _PURPOSE),
        num_images=len(labels),
        images_per_class=dict(
            zip(run.info.class_names, np.bincount(labels, minlength=len(counts)).tolist(), strict=False)
        ),
        sampler=config.sampling.sampler,
        num_steps=steps_of(config.sampling.sampler, config.sampling.num_steps, config.diffusion.num_timesteps),
        guidance_scale=config.sampling.guidance_scale,
        neighbours=config.quality.neighbours,
    )
    if len(labels) == 0:
        return dataclasses.replace(document, problem="since no site has test images of a class that can be drawn")
    run.status.set("finishing", f"drawing {len(labels)} images to judge")
    drawn = pipeline([int(label) for label in labels], seed=document.seed)
    if not bool(torch.isfinite(drawn).all()):
        return dataclasses.replace(document, problem="since the model draws images that are not finite numbers")
    images = ImageSet(to_bytes(drawn), torch.from_numpy(labels), run.info.class_names)
    run.sites.wait(grid)
    traffic, outcomes, figures = Traffic(), {}, []
    classifier = read_classifier(folder / "classification" / "model") if "classification" in config.tasks else None
    for measured in config.judged:
        _parts, outcomes[measured], found = _ask(grid, run, measured, images, classifier, traffic)
        figures += found
        left_out = {site: node for site, node in outcomes[measured].items() if node.outcome != "contributed"}
        run.status.count(left_out, time_label(f"judgement of generated images ({measured})", time.time()))
    if classifier is not None:
        answers = classify(classifier, images.images, None, torch.device("cpu"))
        figures.append(label_figure(labels, answers.labels))
    return dataclasses.replace(
        document,
        figures=tuple(figures),
        sites=outcomes,
        bytes_down=traffic.down,
        bytes_up=traffic.up,
        seconds=time.monotonic() - started,
    )


def _ask(
    grid: Grid, run: Judgement, measured: str, images: ImageSet, classifier: ClassifierModel | None, traffic: Traffic
) -> tuple[Mapping[str, Sums], dict[str, NodeOutcome], list[Figure]]:
    """Ask the sites for one kind of judgement; return their sums and outcomes, and the figures."""
    config, names = run.config, run.info.class_names
    neighbours = config.quality.neighbours
    task = "classification" if measured == "classifier" else "diffusion"
    weights: Weights = {}
    file: NDArray[np.uint8] | None = None
    features, blank = np.zeros((0, 0)), {name: np.zeros((2, len(names))) for name in TRAINED_ON}
    if measured != USEFULNESS:
        network: nn.Module = Pixels()
        if measured == "classifier":
            assert classifier is not None
            network, weights = Embedding(classifier.build_network()), to_numpy(classifier.weights)
        elif measured in FROM_FILE:
            kind = cast(Kind, measured)
            content = read_file(Path(config.quality.network_file), kind)
            network, file = open_network(content, kind, None), np.frombuffer(content, dtype=np.uint8)
        features = set_features(network, images, torch.device("cpu"))
        blank = blank_quality(features.shape[1], len(names))

    def judge(site: str, sums: Sums) -> None:
        known = run.sites.described(site)
        test_counts, train_counts = (known.test_counts, known.train_counts) if known else (None, None)
        if measured == USEFULNESS:
            check_usefulness(sums, test_counts)
        else:
            check_quality(sums, test_counts, train_counts, len(images), neighbours)

    asking = _asking(run, task)
    last_round = config.pass_named(task).options.num_rounds
    asked = (measured, task, last_round, run.folder.path.name, str(run.folder.path))
    parts, outcomes = asking.ask(
        grid, QUALITY, write_generated(asked, images, weights, run.floor_share(), file), blank, traffic, judge=judge
    )
    if measured == USEFULNESS:
        return parts, outcomes, list(usefulness_figures(parts, len(images)))
    number = num_groups(features.shape[1], len(names))
    generated = feature_sums(features, np.minimum(images.labels.numpy(), number - 1), number)
    return parts, outcomes, list(quality_figures(measured, names, parts, generated, neighbours))


def _asking(run: Judgement, task: str) -> Resilient:
    """Return a strategy that only asks."""
    folder, federation = run.folder.path, run.config.federation
    wire = PackedWire(task, folder.name, str(folder))
    kind, flower = combine(Resilient, "FedAvg", run.config.strategy)
    asking = kind(setup=Setup(task=task, seed=run.config.seed, wire=wire, sites=run.sites), **flower)
    asking.deadline_seconds = federation.round_deadline_seconds
    return asking
