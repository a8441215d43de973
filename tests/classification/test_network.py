"""Shapes and sizes of the classifier networks."""

from typing import Literal

import pytest
import torch
from torch import nn

from fl_app.classification.network import build_network
from fl_app.data.images import DatasetInfo
from fl_app.errors import OptionError

CLASSES = ("a", "b", "c")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 9, 28, 30, 31, 64])
def test_the_cnn_takes_every_size(channels: int, size: int) -> None:
    network = build_network(DatasetInfo(CLASSES, channels, size), "cnn", 16)
    images = torch.zeros(2, channels, size, size)
    assert network.embed(images).shape == (2, network.embedding_size) == (2, 16)
    assert network(images).shape == (2, 3)


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 65)])
def test_the_resnet_takes_small_and_large_images_and_has_its_own_embedding(channels: int, size: int) -> None:
    network = build_network(DatasetInfo(CLASSES, channels, size), "resnet18", 16)
    images = torch.zeros(1, channels, size, size)
    assert network.embed(images).shape == (1, network.embedding_size) == (1, 512)
    assert network(images).shape == (1, 3)


def test_the_resnet_halves_small_images_three_times_only() -> None:
    network = build_network(DatasetInfo(CLASSES, 1, 64), "resnet18", 16)
    shapes: list[torch.Size] = []
    network.features.get_submodule("layer4").register_forward_hook(lambda *call: shapes.append(call[2].shape))
    network.embed(torch.zeros(1, 1, 64, 64))
    assert shapes == [(1, 512, 8, 8)]


@pytest.mark.parametrize("name", ["cnn", "resnet18"])
def test_no_layer_keeps_statistics_of_a_nodes_images(name: Literal["cnn", "resnet18"]) -> None:
    network = build_network(DatasetInfo(CLASSES, 1, 8), name, 8)
    assert not [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert dict(network.named_buffers()) == {}


def test_scores_are_the_linear_layer_of_the_embedding() -> None:
    network = build_network(DatasetInfo(CLASSES, 1, 8), "cnn", 8)
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(images), network.linear(network.embed(images)))


def test_embeddings_come_after_a_relu() -> None:
    network = build_network(DatasetInfo(CLASSES, 1, 8), "cnn", 8)
    assert network.embed(torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))).min() >= 0


def test_the_cnn_has_about_215_thousand_weights_at_28_pixels() -> None:
    network = build_network(DatasetInfo(CLASSES, 1, 28), "cnn", 128)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(215_000, rel=0.05)


def test_the_cnn_does_not_grow_beyond_28_pixels() -> None:
    small, large = (build_network(DatasetInfo(CLASSES, 1, size), "cnn", 8) for size in (28, 64))
    assert sum(p.numel() for p in small.parameters()) == sum(p.numel() for p in large.parameters())


def test_a_data_set_of_one_class_has_one_score() -> None:
    network = build_network(DatasetInfo(("a",), 1, 8), "cnn", 8)
    assert network(torch.zeros(1, 1, 8, 8)).shape == (1, 1)


@pytest.mark.parametrize("name", ["cnn", "resnet18"])
def test_images_below_8_pixels_are_refused(name: Literal["cnn", "resnet18"]) -> None:
    with pytest.raises(OptionError, match=r"'data.image-size' must be at least 8 .* got 7"):
        build_network(DatasetInfo(CLASSES, 1, 7), name, 8)
