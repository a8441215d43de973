"""What a node answers about generated images: they are compared with its own, once a run for each network."""

import logging
from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fl_app.classification.network import Classifier
from fl_app.classification.task import ClassificationTask
from fl_app.data.images import ImageSet
from fl_app.data.loading import place
from fl_app.messages.quality import QUALITY, Generated
from fl_app.node.answering import Node
from fl_app.node.exchanged import Sums
from fl_app.node.history import check_weights
from fl_app.node.permissions import NotAllowedError
from fl_app.node.questions import question_of
from fl_app.options.quality import CURVE, FROM_FILE, USEFULNESS
from fl_app.options.run import PassPlan, RunConfig
from fl_app.quality.features import Embedding, Kind, Pixels, open_network, set_features
from fl_app.quality.measuring import IMAGES_PER_FEATURE, measure_quality
from fl_app.quality.usefulness import usefulness
from fl_app.tasks import Task, build_task

log = logging.getLogger(__name__)


def answer_quality(asked: Generated, node: Node) -> Sums:
    """Compare the received images with the node's own, or train small classifiers on them.

    Returns:
        The sums of `quality.measuring.measure_quality` or of `quality.usefulness.usefulness`. Asked again in the same
        run, the node returns the same sums, whatever images it gets.

    Raises:
        NotAllowedError: the run's options do not lead to the request, or the node has not seen the run's first round.
        DataError: the images or their labels do not fit the run.
    """
    task = build_task(asked.instruction.task, node.config, node.info)
    _check_allowed(asked, node.config)
    history = check_weights(task, node, asked.instruction, QUALITY)
    generated = asked.image_set(node.info.class_names)
    if generated.images.shape[1:] != node.data.train.images.shape[1:]:
        raise NotAllowedError(
            f"this node was sent generated images of the shape {list(generated.images.shape[1:])}, and its own have "
            f"{list(node.data.train.images.shape[1:])}. Send images of the run's size"
        )
    log.info("%d generated images are judged by: %s", len(generated), asked.measured)

    def measure() -> Sums:
        if asked.measured == USEFULNESS:
            return _train_on(generated, node)
        return _compare(asked, task, generated, node)

    return history.answer(measure, by=asked.measured)


def _compare(asked: Generated, task: Task, generated: ImageSet, node: Node) -> Sums:
    network: nn.Module = Pixels()
    if asked.measured == "classifier":
        classifier = cast(Classifier, task.build_model())
        classifier.load_state_dict(asked.instruction.weights)
        network = Embedding(classifier)
    elif (name := node.config.quality.curve if asked.measured == CURVE else asked.measured) in FROM_FILE:
        approved = None if node.options.is_simulated else node.options.quality_networks
        network = open_network(asked.network_file.tobytes(), cast(Kind, name), approved)

    def features(images: ImageSet) -> NDArray[np.float64]:
        return set_features(network, place(images, node.device), node.device)

    per_feature = IMAGES_PER_FEATURE if node.options.has_own_folder else 0
    return measure_quality(
        features,
        node.data.test,
        node.data.train,
        generated,
        node.config.quality.neighbours,
        per_feature,
        question_of(QUALITY).fewest(node.options),
    )


def _train_on(generated: ImageSet, node: Node) -> Sums:
    options, data = node.config.classification, node.data
    task = ClassificationTask(PassPlan("classification", options), node.info)
    return usefulness(task, data.train, generated, data.test, device=node.device, seed=node.config.seed, site=data.site)


def _check_allowed(asked: Generated, config: RunConfig) -> None:
    """Refuse what the run's options do not lead to."""
    known = (*config.judged, *((CURVE,) if config.allows_curve else ()))
    if asked.measured not in known:
        raise NotAllowedError(
            f"this node was asked to judge generated images by '{asked.measured[:40]}', and the run's options lead to "
            f"{', '.join(known) or 'no judgement'}. Change 'quality.features'"
        )
    most = 0 if asked.measured == CURVE else config.quality.num_images
    if len(asked.labels) > most:
        raise NotAllowedError(
            f"this node was sent {len(asked.labels)} generated images, and the run's option 'quality.num-images' "
            f"allows {most} for '{asked.measured}'. Send no more"
        )
    expected = "classification" if asked.measured == "classifier" else "diffusion"
    if asked.instruction.task != expected:
        raise NotAllowedError(
            f"this node was asked to judge generated images by '{asked.measured}' for the task "
            f"'{asked.instruction.task}', and that belongs to '{expected}'. Name this task"
        )
