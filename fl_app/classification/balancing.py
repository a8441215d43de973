"""Training on skewed classes: rare ones are topped up, weigh more, or are expected less."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fl_app.classification.task import ClassificationTask
from fl_app.data.images import Batch, ImageSet
from fl_app.data.loading import take


def missing_images(counts: NDArray[np.int64], ratio: float, most: int) -> NDArray[np.int64]:
    """Return how many images each class lacks: [K] int64.

    Args:
        counts: [K], the node's images of each class.
        ratio: a class should have this many times the images of the largest one.
        most: images of a class that are added.
    """
    wanted = np.ceil(ratio * counts.max(initial=0)).astype(np.int64)
    return np.asarray(np.clip(wanted - counts, 0, most), dtype=np.int64)


@dataclass(frozen=True)
class Replay:
    """Images that are trained on beside a node's own.

    Own images are batched as without any replay, so that no round trains on fewer of them, and each batch gets further
    ones in proportion. What is left of a whole image is drawn with that probability, so that a site with many images of
    its own still trains on few others.

    Attributes:
        images: to draw from, with replacement.
        per_own: further images for each own one.
    """

    images: ImageSet
    per_own: float

    def beside(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return a batch with further images behind its own; `generator`: on the CPU, draws them."""
        wanted = self.per_own * len(batch) if len(self.images) else 0.0
        number = int(wanted)
        if wanted > number:
            number += int(torch.rand((), generator=generator).item() < wanted - number)
        if number == 0:
            return batch
        chosen = torch.randint(len(self.images), (number,), generator=generator)
        further = take(self.images, chosen, batch.images.device)
        return Batch(torch.cat([batch.images, further.images]), torch.cat([batch.labels, further.labels]))


def oversampled(images: ImageSet, ratio: float, fewest: int) -> Replay:
    """Return a node's own images of rare classes, as often as the classes lack images.

    Args:
        images: training images.
        ratio: see `missing_images`.
        fewest: images of a class; one that has fewer is not repeated, so that no image weighs very much.
    """
    counts = images.class_counts().numpy()
    missing = np.where(counts >= fewest, missing_images(counts, ratio, int(counts.sum())), 0)
    positions = []
    for label in np.flatnonzero(missing):
        places = torch.nonzero(images.labels == int(label)).flatten()
        positions.append(places.repeat(-(-int(missing[label]) // len(places)))[: int(missing[label])])
    chosen = torch.cat(positions) if positions else torch.empty(0, dtype=torch.int64)
    return Replay(images.select(chosen), float(missing.sum()) / max(len(images), 1))


class Balanced:
    """The objective of a classifier on a node with skewed classes.

    `class-weights`: each image weighs n / (H n_c), with n_c images of its class, n in all and H classes held.
    `logit-adjusted`: the loss is that of the scores plus log (n_c / n), so that the network need not learn how frequent
    classes are at the node (Menon et al. 2021, eq. 10); a class that the node lacks is left out of the softmax.
    """

    def __init__(self, task: ClassificationTask, counts: NDArray[np.int64], fewest: int) -> None:
        """Take the task, whose options say which; the node's training images of each class, [K].

        Args:
            task: of the pass.
            counts: as above.
            fewest: images of a class; images of one that has fewer weigh 1.
        """
        self.task = task
        held, total = counts > 0, max(int(counts.sum()), 1)
        weights = np.where(counts >= fewest, total / (max(int(held.sum()), 1) * np.maximum(counts, 1)), 1.0)
        self._weights = torch.tensor(weights, dtype=torch.float32)
        with np.errstate(divide="ignore"):
            self._shares = torch.tensor(np.log(counts / total), dtype=torch.float32)

    def draw(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Augment the images."""
        return self.task.draw(batch, generator)

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of each image: [B]."""
        if self.task.options.replay == "class-weights":
            return self.task.losses(model, batch) * self._weights.to(batch.labels.device)[batch.labels]
        scores = model(batch.images).float() + self._shares.to(batch.labels.device)
        return functional.cross_entropy(scores, batch.labels, reduction="none")


def surest(probabilities: NDArray[np.float64], labels: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """Return the positions of the images of each class that a classifier is most sure of, in their order.

    Args:
        probabilities: [N], of each image's own class.
        labels: [N].
        share: of the images of each class, at least one image.
    """
    kept = []
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        number = max(1, round(share * len(places)))
        kept.append(places[np.argsort(-probabilities[places], kind="stable")[:number]])
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, dtype=np.int64)
