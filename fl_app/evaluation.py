"""At the end of a run: images of the exported diffusion model are drawn, and the sites judge them."""

import dataclasses
import hashlib
import logging
import math
import time

import numpy as np
import torch
from flwr.serverapp import Grid
from numpy.typing import NDArray
from safetensors.numpy import save
from torch import nn

from fl_app.classification.model import ClassifierModel, read_classifier
from fl_app.classification.prediction import classify
from fl_app.data.images import DatasetInfo, ImageSet
from fl_app.data.loading import to_bytes
from fl_app.errors import FlAppError, RunFolderError
from fl_app.messages.arrays import Weights, to_numpy
from fl_app.options.quality import FROM_FILE, USEFULNESS
from fl_app.options.run import PassPlan, RunConfig
from fl_app.options.training import ClassificationOptions
from fl_app.quality.drawing import classes_to_draw
from fl_app.quality.features import Embedding, Pixels, network_of_file, set_features
from fl_app.quality.figure import Figure
from fl_app.quality.figures import label_figure, quality_figures, usefulness_figures
from fl_app.quality.measuring import group_sums
from fl_app.runs.audit import QUARANTINED, quarantine_of
from fl_app.runs.exchanges import read_exchange
from fl_app.runs.folder import RunFolder
from fl_app.runs.quality import QualityDocument, describe_quality, read_quality, write_quality
from fl_app.runs.report.verdict import shipped_row
from fl_app.runs.run_json import held_classes, read_document
from fl_app.runs.status import Status
from fl_app.seeding import seed_for
from fl_app.strategies.node_outcome import NodeOutcome
from fl_app.strategies.outcomes import Traffic
from fl_app.strategies.quality import Question, ask_quality
from fl_app.strategies.registry import combine
from fl_app.strategies.replay import Drawing
from fl_app.strategies.resilient import Resilient
from fl_app.strategies.setup import Setup, Sites
from fl_app.strategies.transport import PackedWire

log = logging.getLogger(__name__)

_PURPOSE = "quality"
_DIGITS = 16  # of the SHA-256 of a feature network
_GENERATED = "generated images"  # what notes of their judgement are of


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


def judge_generated(grid: Grid, run: Judgement) -> None:
    """Draw images of the exported model, let the sites judge them, and write diffusion/quality.json.

    Nothing that goes wrong here ends the run: the model is finished. It is then degraded, with the reason. A resumed
    run whose images are judged already is left alone.
    """
    if not run.config.judged:
        return
    if (found := read_quality(run.folder.path)) is not None and found.problem is None:
        run.status.recall(_GENERATED)
        return
    problem = None
    try:
        write_quality(run.folder.path, _judge(grid, run))
    except FlAppError as error:
        log.error("The generated images could not be judged: %s", error)
        problem = str(error)
    except Exception as error:  # the models are there, and this must not cost them
        log.exception("The generated images could not be judged")
        problem = type(error).__name__
    if problem is not None:
        run.status.note(_GENERATED, "judgement", problem=f"the generated images could not be judged: {problem}")
    for line in describe_quality(run.folder.path):
        log.info("%s", line)


def _judge(grid: Grid, run: Judgement) -> QualityDocument:
    from fl_app.diffusion.pipeline import open_pipeline  # diffusers takes seconds to import
    from fl_app.diffusion.sampling import steps_of

    started, config, folder = time.monotonic(), run.config, run.folder.path
    counts = np.zeros(len(run.info.class_names), dtype=np.int64)
    for node in read_document(folder).nodes.values():
        counts += node["test"]
    labels = classes_to_draw(counts, held_classes(folder), config.quality.num_images)
    drawn_counts = np.bincount(labels, minlength=len(counts)).tolist()
    document = QualityDocument(
        round=exported_round(run.folder, config),
        seed=seed_for(config.seed, _PURPOSE),
        num_images=len(labels),
        images_per_class=dict(zip(run.info.class_names, drawn_counts, strict=True)),
        sampler=config.sampling.sampler,
        num_steps=steps_of(config.sampling.sampler, config.sampling.num_steps, config.diffusion.num_timesteps),
        guidance_scale=config.sampling.guidance_scale,
        neighbours=config.quality.neighbours,
    )
    if len(labels) == 0:
        return dataclasses.replace(document, problem="since no site has test images of a class that can be drawn")
    if quarantine_of(folder / "diffusion" / QUARANTINED) is not None:  # they may be copies of a hospital's images
        return dataclasses.replace(document, problem="since the model is quarantined")
    pipeline = open_pipeline(folder / "diffusion" / "model")
    run.status.set("finishing", f"drawing {len(labels)} images to judge")
    drawn = pipeline([int(label) for label in labels], seed=document.seed)
    if not bool(torch.isfinite(drawn).all()):
        return dataclasses.replace(document, problem="since the model draws images that are not finite numbers")
    images = ImageSet(to_bytes(drawn), torch.from_numpy(labels), run.info.class_names)
    run.sites.wait(grid)
    traffic, outcomes, figures = Traffic(), {}, []
    classifier = read_classifier(folder / "classification" / "model") if "classification" in config.tasks else None
    for measured in config.judged:
        outcomes[measured], found = _ask(grid, run, measured, images, classifier, traffic)
        figures += found
        run.status.note(_GENERATED, f"judgement of generated images ({measured})", outcomes[measured])
    if classifier is not None:
        answers = classify(classifier, images.images, None, torch.device("cpu"))
        figures.append(label_figure(labels, answers.labels, *_accuracy_on_real(run)))
    return dataclasses.replace(
        document,
        figures=tuple(figures),
        sites=outcomes,
        bytes_down=traffic.down,
        bytes_up=traffic.up,
        seconds=time.monotonic() - started,
    )


def exported_round(folder: RunFolder, config: RunConfig) -> int:
    """Return the round whose diffusion weights are exported."""
    best = folder.best_drawn("diffusion") if config.quality.export == "best" else None
    return best.round_number if best else config.diffusion.num_rounds


def drawing_of(plan: PassPlan, folder: RunFolder, config: RunConfig, status: Status) -> Drawing | None:
    """Return what lets the sites draw images for a training of the classifier; None if it uses none.

    A quarantined model may draw copies of one hospital's images, which no other hospital may see.
    """
    options = plan.options
    if not isinstance(options, ClassificationOptions) or options.replay != "generated" or plan.is_pooled:
        return None
    if quarantine_of(folder.path / "diffusion" / QUARANTINED) is not None:
        log.warning("The diffusion model is quarantined: sites train %s on their own images alone", plan.name)
        problem = f"no generated images were used for {plan.name}, since the diffusion model is quarantined"
        status.note(plan.name, f"model for {plan.name}", problem=problem)
        return None
    from fl_app.diffusion.pipeline import open_pipeline  # diffusers takes seconds to import

    try:
        weights = open_pipeline(folder.path / "diffusion" / "model").unet.state_dict()
    except FlAppError as error:
        log.warning("The diffusion model cannot be opened, so sites train on their own images alone: %s", error)
        problem = f"no generated images were used for {plan.name}: {error}"
        status.note(plan.name, f"model for {plan.name}", problem=problem)
        return None
    return Drawing(
        weights=to_numpy(weights),
        round_number=exported_round(folder, config),
        held=held_classes(folder.path),
        most=options.replay_images,
        run_name=folder.path.name,
        run_folder=str(folder.path),
    )


def _ask(
    grid: Grid, run: Judgement, measured: str, images: ImageSet, classifier: ClassifierModel | None, traffic: Traffic
) -> tuple[dict[str, NodeOutcome], list[Figure]]:
    """Ask the sites for one kind of judgement; return their outcomes, and the figures."""
    config, names = run.config, run.info.class_names
    weights: Weights = {}
    file: NDArray[np.uint8] | None = None
    features = np.zeros((0, 0))
    if measured != USEFULNESS:
        network: nn.Module = Pixels()
        if measured == "classifier":
            assert classifier is not None
            network, weights = Embedding(classifier.build_network()), to_numpy(classifier.weights)
        elif measured in FROM_FILE:
            network, file = network_of_file(config.quality.network_file, measured)
        features = set_features(network, images, torch.device("cpu"))
    task = "classification" if measured == "classifier" else "diffusion"
    question = Question(
        measured=measured,
        last_round=config.pass_named(task).options.num_rounds,
        images=images,
        num_features=features.shape[1],
        neighbours=config.quality.neighbours,
        largest=1.0 if measured == "pixels" else math.inf,
        weights=weights,
        network_file=file,
    )
    parts, outcomes = ask_quality(_asking(run, task), grid, question, traffic)
    if measured == USEFULNESS:
        return outcomes, list(usefulness_figures(parts, len(images)))
    generated = group_sums(features, images.labels.numpy(), len(names))
    found = quality_figures(measured, names, parts, generated, config.quality.neighbours)
    of_network = file.tobytes() if file is not None else save(weights) if weights else b""
    digest = hashlib.sha256(of_network).hexdigest()[:_DIGITS] if of_network else ""
    return outcomes, [dataclasses.replace(one, network=digest) for one in found]


def _accuracy_on_real(run: Judgement) -> tuple[float | None, int]:
    """Return what the classifier that ships reaches on real test images, and on how many; None if it is not known."""
    name = f"round-{run.config.classification.num_rounds:04d}.json"
    try:
        row = shipped_row(read_exchange(run.folder.task("classification") / "prototypes" / name))
    except RunFolderError as error:  # the floor is lost, and not the figures
        log.warning("What the classifier reaches on real images is not known: %s", error)
        return None, 0
    if row is None or row.part != "test":
        return None, 0
    found, images = row.figures.get("accuracy"), row.figures.get("n")
    return found, int(images or 0)


def _asking(run: Judgement, task: str) -> Resilient:
    """Return a strategy that only asks."""
    folder, federation = run.folder.path, run.config.federation
    wire = PackedWire(task, folder.name, str(folder))
    kind, flower = combine(Resilient, "FedAvg", run.config.strategy)
    asking = kind(setup=Setup(task=task, seed=run.config.seed, wire=wire, sites=run.sites), **flower)
    asking.deadline_seconds = federation.round_deadline_seconds
    return asking
