"""The classifier networks: features, then one linear layer."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from fl_app.accumulation import compute_in_pieces
from fl_app.data.images import DatasetInfo
from fl_app.errors import OptionError
from fl_app.plugins import PluginError, load

_SMALLEST_SIZE = 8  # pixels a side; two halvings leave 2 x 2
_GROUP_SIZE = 8
_CNN_CHANNELS = (16, 32)
_CNN_GRID = 7  # cells a side that the linear layer sees at most
_RESNET_GROUPS = 32
_RESNET_EMBEDDING = 512
_LARGEST_SMALL_STEM = 64  # pixels a side up to which the ResNet keeps full resolution in its first layer


class Classifier(nn.Module):
    """A network in two parts; it keeps no statistics of images.

    Attributes:
        embedding_size: D.
        linear: D -> K.
    """

    def __init__(self, features: nn.Module, embedding_size: int, num_classes: int) -> None:
        super().__init__()
        self.features = features
        self.embedding_size = embedding_size
        self.linear = nn.Linear(embedding_size, num_classes)

    def embed(self, images: Tensor) -> Tensor:
        """Return what the last layer sees, [B, D] float32; `images`: [B, C, H, W] float32 in [-1, 1]."""
        return self.features(images)  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        """Return the score of each class, [B, K] float32; `images`: [B, C, H, W] float32 in [-1, 1]."""
        return self.linear(self.embed(images))  # type: ignore[no-any-return]


def embed(network: Classifier, images: Tensor) -> NDArray[np.float64]:
    """Return the embeddings of a batch of images, [B, D], on the host; in pieces where GPU memory is short."""
    return compute_in_pieces(lambda part: network.embed(images[part]).double(), len(images)).numpy()


# Builds a network from what is known of the images and the option `embedding-size`: a plug-in of `fl_app.networks`.
# Its features, [B, C, H, W] float32 in [-1, 1] to [B, D] float32, must be at least 0, as after a ReLU, since the server
# refuses sums that are not; and may not keep statistics of images: GroupNorm in place of BatchNorm.
BuildNetwork = Callable[[DatasetInfo, int], Classifier]


def build_network(info: DatasetInfo, name: str, embedding_size: int) -> Classifier:
    """Build a classifier; its initial weights come from torch's global generator.

    Args:
        info: channels, side of the images, and K classes.
        name: built in or a plug-in.
        embedding_size: D that is asked for; a network may have its own.

    Raises:
        OptionError: the images are too small, or the name stands for nothing that may be used.
    """
    if info.image_size < _SMALLEST_SIZE:
        raise OptionError(
            f"Option 'data.image-size' must be at least {_SMALLEST_SIZE} for classification, got {info.image_size}."
        )
    build = load("networks", name, "classification.network")
    network: Classifier = build(info, embedding_size)
    _check(network, name, len(info.class_names))
    return network


def cnn(info: DatasetInfo, embedding_size: int) -> Classifier:
    """Build two convolutions with GroupNorm, about 215 k weights at 28 pixels and D 128."""
    blocks: list[nn.Module] = []
    channels, side = info.num_channels, info.image_size
    for wider in _CNN_CHANNELS:  # strided: on a CPU a third of the time of a convolution and a pool
        blocks += [
            nn.Conv2d(channels, wider, 5, stride=2, padding=2),
            nn.GroupNorm(wider // _GROUP_SIZE, wider),
            nn.ReLU(),
        ]
        channels, side = wider, (side + 1) // 2
    if side > _CNN_GRID:
        side = _CNN_GRID
        blocks.append(nn.AdaptiveAvgPool2d(side))
    features = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(channels * side * side, embedding_size), nn.ReLU())
    return Classifier(features, embedding_size, len(info.class_names))


def resnet18(info: DatasetInfo, embedding_size: int) -> Classifier:
    """Build the ResNet of 18 layers (He et al. 2016) with GroupNorm; D is 512 whatever is asked for."""
    from torchvision import models  # slow to import, and needed for this network only

    network = models.resnet18(norm_layer=lambda channels: nn.GroupNorm(_RESNET_GROUPS, channels))
    if info.image_size <= _LARGEST_SMALL_STEM:
        network.conv1 = nn.Conv2d(info.num_channels, 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    else:
        network.conv1 = nn.Conv2d(info.num_channels, 64, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.fc = nn.Identity()
    return Classifier(network, _RESNET_EMBEDDING, len(info.class_names))


def _check(network: Any, name: str, num_classes: int) -> None:
    """Refuse what a plug-in must not build."""
    if not isinstance(network, Classifier) or network.linear.out_features != num_classes:
        raise PluginError(
            f"The network '{name}' must be a fl_app.classification.network.Classifier of {num_classes} classes, got "
            f"{type(network).__name__}."
        )
    if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in network.modules()):
        raise PluginError(f"The network '{name}' keeps statistics of images (BatchNorm). Use GroupNorm in its place.")
