"""Classifiers that judge images: what class do they show, and what are their features?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.svm import SVC
from torch import Tensor

from benchmarks.features import BATCH_SIZE, FeatureNetwork, load_features, train_network
from fl_app.data.images import ImageSet
from fl_app.data.loading import to_float
from fl_app.options.images import DataOptions

_SVM_SIDE = 8  # gamma below belongs to 8 x 8 pixels of 0 to 16
_LEARNER_STEPS = 500  # of the network that learns from few images


class Judge(Protocol):
    """A trained classifier; images are [N, C, H, W] uint8."""

    def classes_of(self, images: Tensor) -> NDArray[np.int64]:
        """Return the class of each image: [N]."""
        ...

    def features_of(self, images: Tensor) -> NDArray[np.float64]:
        """Return the features of each image: [N, D]."""
        ...


@dataclass(frozen=True)
class PixelJudge:
    """A support vector machine on the pixels, which are its features."""

    svm: SVC

    def classes_of(self, images: Tensor) -> NDArray[np.int64]:
        """Return the class of each image: [N]."""
        return np.asarray(self.svm.predict(pixels_of(images)), dtype=np.int64)

    def features_of(self, images: Tensor) -> NDArray[np.float64]:
        """Return the pixels, from 0 to 16: [N, C * H * W]."""
        return pixels_of(images)


@dataclass(frozen=True)
class NetworkJudge:
    """The feature network; its features are the last hidden activations."""

    network: FeatureNetwork

    @torch.no_grad()
    def classes_of(self, images: Tensor) -> NDArray[np.int64]:
        """Return the class of each image: [N]."""
        scores = torch.cat([self.network(to_float(part)) for part in images.split(500)])
        return np.asarray(scores.argmax(1).numpy(), dtype=np.int64)

    @torch.no_grad()
    def features_of(self, images: Tensor) -> NDArray[np.float64]:
        """Return the last hidden activations: [N, 64]."""
        parts = [self.network.features(to_float(part)) for part in images.split(500)]
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float64)


def pixels_of(images: Tensor) -> NDArray[np.float64]:
    """Return [N, C * H * W] in 0 to 16, the scale of `digits`, of [N, C, H, W] uint8."""
    return np.asarray(images.flatten(1).numpy(), dtype=np.float64) * (16 / 255)


def judge_of(options: DataOptions, train: ImageSet, num_epochs: int, seed: int, cache: Path | None) -> Judge:
    """Train the judge of a data set on its whole training set.

    Args:
        options: of the run; they choose the kind of judge: an SVM for digits of 8 px, else the feature network.
        train: the whole training set.
        num_epochs: of the feature network.
        seed: of the feature network.
        cache: file that keeps the feature network, see `load_features`; None: train each time.
    """
    if _wants_svm(options, train):
        return PixelJudge(_svm().fit(pixels_of(train.images), train.labels.numpy()))
    return NetworkJudge(load_features(options, num_epochs, seed, cache).network)


def learn_from(options: DataOptions, images: ImageSet, seed: int) -> Judge:
    """Train a classifier of the judge's kind on few images, real or generated.

    The feature network takes about 500 steps, however few the images are.

    Args:
        options: of the run, as for `judge_of`.
        images: the only images that it sees.
        seed: of the feature network's initial weights and of the order of the images.
    """
    if _wants_svm(options, images):
        return PixelJudge(_svm().fit(pixels_of(images.images), images.labels.numpy()))
    num_epochs = max(1, round(_LEARNER_STEPS * BATCH_SIZE / len(images)))
    return NetworkJudge(train_network(images, num_epochs, seed))


def _wants_svm(options: DataOptions, images: ImageSet) -> bool:
    return options.source == "digits" and images.images.shape[-1] == _SVM_SIDE


def _svm() -> SVC:
    return SVC(gamma=0.001, C=10)
