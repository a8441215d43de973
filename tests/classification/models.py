"""Small classifiers of easy images, and folders of such images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fl_app.classification.heads import build_heads, linear_head
from fl_app.classification.model import ClassifierModel
from fl_app.classification.moments import measure_moments, pool
from fl_app.classification.network import Classifier, build_network
from fl_app.data.images import DatasetInfo, ImageSet

CLASSES = ("dark", "bright", "striped")
CPU = torch.device("cpu")


def make_images(counts: Sequence[int], seed: int, num_channels: int = 1, size: int = 8) -> ImageSet:
    """Return so many images of each class: nearly black ones, nearly white ones, and stripes, each with noise."""
    generator = np.random.default_rng(seed)
    stripes = np.broadcast_to(np.where(np.arange(size) % 2, 190, 40), (size, size))
    patterns = np.stack([np.full((size, size), 20), np.full((size, size), 210), stripes])
    labels = np.repeat(np.arange(3), counts)
    noise = generator.integers(0, 40, (len(labels), num_channels, size, size))
    pixels = (patterns[labels][:, None] + noise).astype(np.uint8)
    return ImageSet(torch.from_numpy(pixels), torch.from_numpy(labels), CLASSES)


def make_classifier(
    sites: Mapping[str, Sequence[int]],
    shipped: str = "linear",
    num_channels: int = 1,
    abstain_distance: float | None = None,
    min_class_count: int = 1,
) -> ClassifierModel:
    """Return an untrained network with the sums of sites that hold so many images of each class."""
    network = make_network(num_channels)
    images = {site: make_images(counts, seed, num_channels) for seed, (site, counts) in enumerate(sites.items())}
    pooled = pool([measure_moments(network, held, CPU, min_class_count) for held in images.values()])
    layer = network.linear
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    linear = linear_head(weight, bias, [any(column) for column in zip(*sites.values(), strict=True)])
    return ClassifierModel(
        network="cnn",
        embedding_size=6,
        info=DatasetInfo(CLASSES, num_channels, 8),
        weights=dict(network.state_dict()),
        pooled=pooled,
        heads={"linear": linear, **build_heads(pooled, 0.1)[0]},
        shipped=shipped,
        reading="consistent",
        shrinkage=0.1,
        abstain_distance=abstain_distance,
        record={"round": 3, "contributed": list(sites)},
    )


def make_network(num_channels: int = 1) -> Classifier:
    """Return the same untrained network with every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return build_network(DatasetInfo(CLASSES, num_channels, 8), "cnn", 6)


def write_folder(folder: Path, images: ImageSet) -> Path:
    """Write PNG files `<class>/<number>.png`; return the folder."""
    for number, (image, label) in enumerate(zip(images.images, images.labels.tolist(), strict=True)):
        of_class = folder / images.class_names[label]
        of_class.mkdir(parents=True, exist_ok=True)
        save_image(image, of_class / f"{number}.png")
    return folder


def save_image(image: torch.Tensor, path: Path) -> Path:
    """Write one image [C, H, W] uint8; return the path."""
    pixels = image.permute(1, 2, 0).numpy()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(path)
    return path
