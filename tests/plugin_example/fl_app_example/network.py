"""A classifier network: one convolution and max pooling."""

from torch import nn

from fl_app.classification.network import Classifier
from fl_app.data.images import DatasetInfo


def build(info: DatasetInfo, embedding_size: int) -> Classifier:
    """Build the network; its embedding, [B, embedding_size], ends in a ReLU."""
    features = nn.Sequential(
        nn.Conv2d(info.num_channels, 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, embedding_size),
        nn.ReLU(),
    )
    return Classifier(features, embedding_size, len(info.class_names))
