"""Classifiers: an embedding and one linear layer, with GroupNorm throughout.

BatchNorm's running statistics are those of one node's images; averaged over nodes with other images they fit nobody.
"""

from functools import partial
from typing import Literal

import torchvision
from torch import Tensor, nn

from fl_app.data.images import DatasetInfo
from fl_app.errors import OptionError

_SMALLEST_IMAGE = 8
_POOLED_SIDE = 7  # of the last feature map; larger images are averaged down to it
_CHANNELS = (16, 32)
_GROUP_SIZE = 8
_LARGEST_FOR_SMALL_STEM = 64


class Classifier(nn.Module):
    """An embedding f(x) in R^D and a linear layer on it.

    Attributes:
        embedding_size: D.
        linear: D -> K.
    """

    def __init__(self, trunk: nn.Module, embedding_size: int, num_classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.embedding_size = embedding_size
        self.linear = nn.Linear(embedding_size, num_classes)

    def embed(self, images: Tensor) -> Tensor:
        """Return the embeddings [B, D] of images [B, C, H, W] float32 in [-1, 1]."""
        features: Tensor = self.trunk(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores of the linear layer: [B, K]."""
        scores: Tensor = self.linear(self.embed(images))
        return scores


def build_network(info: DatasetInfo, name: Literal["cnn", "resnet18"], embedding_size: int) -> Classifier:
    """Build a classifier; its initial weights come from torch's global generator.

    Args:
        info: channels, side of the images, and K classes.
        name: `cnn`, two convolutions; `resnet18`, torchvision's, whose stem keeps the size of images up to 64 pixels.
        embedding_size: D of the `cnn`; `resnet18` has 512.

    Raises:
        OptionError: the images are too small.
    """
    if info.image_size < _SMALLEST_IMAGE:
        raise OptionError(
            f"The classifier takes images of at least {_SMALLEST_IMAGE} pixels a side, got {info.image_size}. "
            "Set 'data.image-size'."
        )
    if name == "resnet18":
        return _build_resnet18(info)
    first, second = _CHANNELS
    side = min(info.image_size // 4, _POOLED_SIDE)
    shrink = nn.AdaptiveAvgPool2d(side) if info.image_size // 4 > side else nn.Identity()
    trunk = nn.Sequential(
        *_block(info.num_channels, first),
        *_block(first, second),
        shrink,
        nn.Flatten(),
        nn.Linear(second * side**2, embedding_size),
        nn.ReLU(),
    )
    return Classifier(trunk, embedding_size, len(info.class_names))


def _block(num_in: int, num_out: int) -> list[nn.Module]:
    return [
        nn.Conv2d(num_in, num_out, 3, padding=1),
        nn.GroupNorm(num_out // _GROUP_SIZE, num_out),
        nn.ReLU(),
        nn.MaxPool2d(2),
    ]


def _build_resnet18(info: DatasetInfo) -> Classifier:
    resnet = torchvision.models.resnet18(weights=None, norm_layer=partial(nn.GroupNorm, 32))
    small = info.image_size <= _LARGEST_FOR_SMALL_STEM
    kernel, stride, padding = (3, 1, 1) if small else (7, 2, 3)
    resnet.conv1 = nn.Conv2d(info.num_channels, 64, kernel, stride, padding, bias=False)
    nn.init.kaiming_normal_(resnet.conv1.weight, mode="fan_out", nonlinearity="relu")
    if small:
        resnet.maxpool = nn.Identity()
    embedding_size = int(resnet.fc.in_features)
    resnet.fc = nn.Identity()
    return Classifier(resnet, embedding_size, len(info.class_names))
