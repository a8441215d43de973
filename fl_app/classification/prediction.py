"""Classifies images with a finished classifier."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from fl_app.classification.heads import predict
from fl_app.classification.model import ClassifierModel
from fl_app.classification.network import embed
from fl_app.data.loading import to_float
from fl_app.errors import DataError

_BATCH_SIZE = 256


@dataclass(frozen=True)
class Predictions:
    """A classifier's answers for N images.

    Attributes:
        labels: [N] int64.
        probabilities: [N, K] float64, the softmax of the head's scores over its temperature; 0 for a class that the
            head excludes.
        distances: [N] float64, to the nearest prototype, in the embedding, by the distance of the classifier's
            `abstain_by`; infinite if there is no prototype.
        abstain: [N] bool: too far from every prototype, or from the training images' brightness, contrast and
            roughness, to trust the answer.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    distances: NDArray[np.float64]
    abstain: NDArray[np.bool_]


def classify(classifier: ClassifierModel, images: Tensor, head: str | None, device: torch.device) -> Predictions:
    """Classify images.

    Args:
        classifier: that answers.
        images: [N, C, H, W] uint8, of its channels and size.
        head: name of one of its heads; None: the one that ships.
        device: where to compute.

    Raises:
        OptionError: the classifier has no such head.
        DataError: the images have another shape or type.
        FlAppError: an embedding is not finite.
    """
    chosen = classifier.head(head)
    expected = (classifier.info.num_channels, classifier.info.image_size, classifier.info.image_size)
    if images.dtype != torch.uint8 or images.shape[1:] != expected:
        raise DataError(f"Images must be uint8 [N, {expected}], got {images.dtype} {list(images.shape)}.")
    network = classifier.build_network().to(device)
    with torch.no_grad():
        features = np.concatenate([embed(network, to_float(part.to(device))) for part in images.split(_BATCH_SIZE)])
    scores = chosen.scores(features)
    probabilities = softmax(scores / classifier.temperatures.get(head or classifier.shipped, 1.0), axis=1)
    distances = classifier.distances(features)
    return Predictions(predict(scores), probabilities, distances, classifier.abstains(images, distances))
