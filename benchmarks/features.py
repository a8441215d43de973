"""Additive sums of features: the last hidden layer of a classifier that is trained on a whole source."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from fl_app.data.images import ImageSet
from fl_app.data.loading import iterate, to_bytes, to_float
from fl_app.data.sources import load_split
from fl_app.errors import OptionError
from fl_app.metrics.generation import feature_sums
from fl_app.options.images import DataOptions
from fl_app.seeding import seed_for
from fl_app.sums import Sums, add

NUM_FEATURES = 64

BATCH_SIZE = 64
_LEARNING_RATE = 2e-3
_CPU = torch.device("cpu")


def feature_moments(features: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
    """Sum up features of M images, [M, D], as those of one class: see `feature_sums`."""
    f = np.asarray(features, dtype=np.float64)
    return feature_sums(f, np.zeros(len(f), dtype=np.int64), 1)


class FeatureNetwork(nn.Module):
    """Three convolutions, the mean over the pixels, one linear layer."""

    def __init__(self, num_channels: int, num_classes: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(num_channels, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, NUM_FEATURES, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.classes = nn.Linear(NUM_FEATURES, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Return [B, NUM_FEATURES] of images [B, C, H, W] float32 in [-1, 1]."""
        pooled: Tensor = self.convolutions(images).mean(dim=(2, 3))
        return pooled

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores: [B, K]."""
        scores: Tensor = self.classes(self.features(images))
        return scores


@dataclass(frozen=True)
class Features:
    """A trained feature network.

    Attributes:
        network: in eval mode.
        accuracy: share of the test images that it classifies rightly.
    """

    network: FeatureNetwork
    accuracy: float

    def of_images(self, images: ImageSet) -> Sums:
        """Return the additive moments of the features of real images."""
        return self._moments(batch.images for batch in iterate(images, 500, _CPU))

    def of_samples(self, samples: Tensor) -> Sums:
        """Return the moments of generated images [N, C, H, W] in [-1, 1], rounded to bytes as real ones are."""
        return self._moments(to_float(to_bytes(part)) for part in samples.split(500))

    @torch.no_grad()
    def _moments(self, batches: Iterable[Tensor]) -> Sums:
        return add(feature_moments(self.network.features(images).numpy()) for images in batches)


def load_features(options: DataOptions, num_epochs: int, seed: int, cache: Path | None) -> Features:
    """Train the feature network of a source and an image size on its whole training set, or read it from the cache.

    Args:
        options: of the run; `limit` does not count here.
        num_epochs: passes over the training set.
        seed: of the initial weights and of the order of the images.
        cache: a safetensors file to read where it exists and to write where not; None: train each time.

    Raises:
        OptionError: the cache is of other features.
    """
    whole = options.model_copy(update={"limit": 0})
    train = load_split(whole, "train", seed)
    key = {
        "source": options.source,
        "image-size": str(train.images.shape[-1]),
        "num-images": str(len(train)),
        "epochs": str(num_epochs),
        "seed": str(seed),
    }
    if cache is not None and cache.exists():
        return _read(cache, key, FeatureNetwork(train.images.shape[1], len(train.class_names)))
    network = train_network(train, num_epochs, seed)
    features = Features(network, _accuracy(network, load_split(whole, "test", seed)))
    if cache is not None:
        save_file(network.state_dict(), cache, metadata={**key, "accuracy": repr(features.accuracy)})
    return features


def train_network(images: ImageSet, num_epochs: int, seed: int) -> FeatureNetwork:
    """Train a new network with Adam, its step size falling to 0 in a line, and return it in eval mode.

    Args:
        images: its classes are those of `class_names`, some of which may be absent.
        num_epochs: passes over the images.
        seed: of the initial weights and of the order of the images.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "features"))
        network = FeatureNetwork(images.images.shape[1], len(images.class_names))
    optimizer = torch.optim.Adam(network.parameters(), _LEARNING_RATE, fused=True)
    num_steps = num_epochs * -(-len(images) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 - step / num_steps)
    order = torch.Generator().manual_seed(seed_for(seed, "features", "order"))
    for _ in range(num_epochs):
        for batch in iterate(images, BATCH_SIZE, _CPU, order):
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(network(batch.images), batch.labels).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def _accuracy(network: FeatureNetwork, images: ImageSet) -> float:
    right = sum(int((network(b.images).argmax(1) == b.labels).sum()) for b in iterate(images, 500, _CPU))
    return right / len(images)


def _read(cache: Path, key: dict[str, str], network: FeatureNetwork) -> Features:
    with safe_open(cache, "pt") as file:
        found: dict[str, str] = file.metadata() or {}
    for name, wanted in key.items():
        if found.get(name) != wanted:
            raise OptionError(
                f"{cache} holds features of {name} {found.get(name)}, wanted is {wanted}: name another file."
            )
    network.load_state_dict(load_file(cache))
    network.eval()
    return Features(network, float(found["accuracy"]))
