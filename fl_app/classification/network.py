"""The classifier networks: an embedding, then one linear layer."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from fl_app.accumulation import compute_in_pieces
from fl_app.data.images import DatasetInfo
from fl_app.errors import OptionError

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


def build_network(info: DatasetInfo, name: Literal["cnn", "resnet18"], embedding_size: int) -> Classifier:
    """Build a classifier with GroupNorm; its initial weights come from torch's global generator.

    Args:
        info: channels, side of the images, and K classes.
        name: `cnn` (two convolutions, about 215 k weights at 28 pixels and D 128) or `resnet18` (He et al. 2016).
        embedding_size: D of the `cnn`; the `resnet18` has 512 whatever is asked for.

    Raises:
        OptionError: the images are too small.
    """
    if info.image_size < _SMALLEST_SIZE:
        raise OptionError(
            f"Option 'data.image-size' must be at least {_SMALLEST_SIZE} for classification, got {info.image_size}."
        )
    if name == "resnet18":
        return Classifier(_resnet18(info), _RESNET_EMBEDDING, len(info.class_names))
    return Classifier(_cnn(info, embedding_size), embedding_size, len(info.class_names))


def _cnn(info: DatasetInfo, embedding_size: int) -> nn.Module:
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
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(channels * side * side, embedding_size), nn.ReLU())


def _resnet18(info: DatasetInfo) -> nn.Module:
    from torchvision.models import resnet18  # slow to import, and needed for this network only

    network = resnet18(norm_layer=lambda channels: nn.GroupNorm(_RESNET_GROUPS, channels))
    if info.image_size <= _LARGEST_SMALL_STEM:
        network.conv1 = nn.Conv2d(info.num_channels, 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    else:
        network.conv1 = nn.Conv2d(info.num_channels, 64, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.fc = nn.Identity()
    return network  # type: ignore[no-any-return]
