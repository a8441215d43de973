"""Feature networks: images in, features out, by which generated images are compared with real ones.

A feature network is a module that maps images, [B, C, H, W] float32 in [-1, 1], to features, [B, D] float32. Distances
of one network compare with one another only.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from fl_app.accumulation import compute_in_pieces
from fl_app.classification.network import Classifier
from fl_app.data.images import ImageSet
from fl_app.data.loading import iterate
from fl_app.errors import FlAppError, did_you_mean
from fl_app.options.quality import FROM_FILE
from fl_app.options.run import RunConfig

Kind = Literal["inception", "file"]

_MOST_PIXELS = 256  # features of `Pixels`, all channels together
_BATCH_SIZE = 64
_INCEPTION = "inception_v3"
_INCEPTION_SIDE, _SIDE = 299, 224  # pixels a side of the images that torchvision's models were trained on
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # heads that only training uses
_ONLY_IN_TRAINING = ".num_batches_tracked"  # lacking in files of old versions of torch
# The published weights of these two come from images in [-1, 1], which `transform_input` restores.
_ARGUMENTS = {
    name: {"aux_logits": False, "init_weights": False, "transform_input": True} for name in (_INCEPTION, "googlenet")
}
_MOST_NAMED = 3  # of the entries that do not fit
_EXPORT = (
    "safetensors.torch.save_file(torchvision.models.resnet18(weights='DEFAULT').state_dict(), 'resnet18.safetensors', "
    "{'architecture': 'resnet18'})"
)


class FeatureNetworkError(FlAppError):
    """A feature network's file is absent, not approved or damaged; the public text names no file and no hash."""


class Pixels(nn.Module):
    """The image itself, averaged over cells so that D is at most 256."""

    def forward(self, images: Tensor) -> Tensor:
        """Return [B, D] in [-1, 1] of images [B, C, H, W] in [-1, 1]."""
        side = math.isqrt(_MOST_PIXELS // images.shape[1])
        height, width = (min(length, side) for length in images.shape[2:])
        return functional.adaptive_avg_pool2d(images, (height, width)).flatten(1)


class Embedding(nn.Module):
    """The last layer's input of a run's classifier.

    Attributes:
        network: the classifier.
    """

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return [B, D] of images [B, C, H, W] in [-1, 1]."""
        return self.network.embed(images)


class ImageNetFeatures(nn.Module):
    """A network of torchvision without its head, fed as it was trained.

    Attributes:
        network: maps normalised RGB images, [B, 3, side, side], to [B, D].
        side: in pixels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, side: int) -> None:
        super().__init__()
        self.network = network
        self.side = side
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return [B, D] of images [B, C, H, W] in [-1, 1]; grey is repeated to RGB."""
        size = (self.side, self.side)
        resized = functional.interpolate(images, size=size, mode="bilinear", antialias=True)
        rgb = resized.expand(-1, 3, -1, -1)
        features: Tensor = self.network(((rgb + 1.0) / 2.0 - self.mean) / self.std)
        return features.flatten(1)


@torch.no_grad()
def batch_features(network: nn.Module, images: Tensor) -> NDArray[np.float64]:
    """Return the features of a batch, [B, D], on the host; in pieces if GPU memory is short.

    Args:
        network: a feature network in eval mode, on the images' device.
        images: [B, C, H, W] float32 in [-1, 1], B at least 1.
    """
    return compute_in_pieces(lambda part: network(images[part]).double(), len(images)).numpy()


def set_features(network: nn.Module, images: ImageSet, device: torch.device) -> NDArray[np.float64]:
    """Return the features of a set, [N, D], in the set's order.

    Args:
        network: a feature network; it is moved to the device.
        images: real ones, or generated ones as bytes: both are rounded alike.
        device: where to compute.
    """
    was_training = network.training
    network.to(device).eval()
    try:
        if len(images) == 0:  # D is known only from an image
            shape = (1, *images.images.shape[1:])
            return batch_features(network, torch.zeros(shape, device=device))[:0]
        return np.concatenate([batch_features(network, batch.images) for batch in iterate(images, _BATCH_SIZE, device)])
    finally:
        network.train(was_training)


def read_file(path: Path, kind: Kind) -> bytes:
    """Return the bytes of a feature network's file; raises FeatureNetworkError if it is absent or cannot be read."""
    of_what = f"torchvision's {_INCEPTION}" if kind == "inception" else "a classifier of torchvision"
    if not path.is_file():
        raise FeatureNetworkError(
            f"There is no feature network at {path}. It is a safetensors file with the weights of {of_what}, which you "
            f"export yourself, as by {_EXPORT}.",
            public=f"the file of the feature network '{kind}' is absent",
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise FeatureNetworkError(
            f"The feature network {path} cannot be read: {error.strerror}.",
            public=f"the file of the feature network '{kind}' cannot be read",
        ) from None


def network_of_file(path: str, kind: str) -> tuple[nn.Module, NDArray[np.uint8]]:
    """Open the feature network of a file on this machine; return it, and the file's bytes, [M] uint8.

    Raises:
        FeatureNetworkError: the file is absent, or holds something else.
    """
    data = read_file(Path(path).expanduser(), cast(Kind, kind))
    return open_network(data, cast(Kind, kind), None), np.frombuffer(data, dtype=np.uint8)


def check_network_file(config: RunConfig) -> None:
    """Open the file of the feature networks that a run will use; raises FeatureNetworkError if it cannot be used."""
    curve = (config.quality.curve,) if config.has_curve else ()
    for kind in dict.fromkeys((*config.judged, *curve)):
        if kind in FROM_FILE:
            network_of_file(config.quality.network_file, kind)


def open_network(data: bytes, kind: Kind, approved: Sequence[str] | None) -> nn.Module:
    """Open a feature network from the bytes of a safetensors file, in eval mode and without gradients.

    Args:
        data: weights of a classifier of torchvision, as `state_dict` returns them. Its head may have any number of
            classes, or be left out.
        kind: `inception`: torchvision's inception_v3, 2048 features of 299 pixels; `file`: the classifier that the
            file's metadata name as `architecture`, fed with 224 pixels, without its last linear layer.
        approved: SHA-256 of the files that may be opened, in hexadecimal; None: any.

    Raises:
        FeatureNetworkError: the file is not approved, or holds something else.
    """
    found = hashlib.sha256(data).hexdigest()
    if approved is not None and found not in {one.strip().lower() for one in approved}:
        raise FeatureNetworkError(
            f"The file of the feature network '{kind}' is not approved: its SHA-256 is {found}. If you trust it, add "
            "this hash to the node option 'quality-networks'.",
            public=f"the file of the feature network '{kind}' is not approved (node option 'quality-networks')",
        )
    try:
        weights = safetensors.torch.load(data)
    except SafetensorError as error:
        raise FeatureNetworkError(
            f"The file of the feature network '{kind}' is no safetensors file ({error}). Export the weights anew: "
            f"{_EXPORT}.",
            public=f"the file of the feature network '{kind}' is damaged",
        ) from None
    architecture = _architecture(kind, data)
    network = _without_head(architecture, weights, kind)
    side = _INCEPTION_SIDE if architecture == _INCEPTION else _SIDE
    return ImageNetFeatures(network, side).eval().requires_grad_(False)


def _architecture(kind: Kind, data: bytes) -> str:
    """Return the name of the network in torchvision.models."""
    from torchvision import models  # slow to import, and only these networks need it

    header: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    named = str(header.get("__metadata__", {}).get("architecture", _INCEPTION if kind == "inception" else ""))
    known = [_INCEPTION] if kind == "inception" else models.list_models(module=models)
    if named not in known:
        expected = _INCEPTION if kind == "inception" else "a classifier of torchvision.models, such as 'resnet18'"
        raise FeatureNetworkError(
            f"The metadata of the feature network's file must name {expected} as 'architecture', got '{named}'."
            f"{did_you_mean(named, known)} Export the weights so: {_EXPORT}.",
            public=f"the file of the feature network '{kind}' names no architecture that can be used",
        )
    return named


def _without_head(architecture: str, weights: Mapping[str, Tensor], kind: Kind) -> nn.Module:
    """Build a network of torchvision without its last linear layer, with the weights of the file."""
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        network = cast(nn.Module, models.get_model(architecture, weights=None, **_ARGUMENTS.get(architecture, {})))
    heads = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    if not heads:
        raise FeatureNetworkError(
            f"The feature network '{architecture}' has no linear layer at its end. Take another one, such as "
            "'resnet18'.",
            public=f"the file of the feature network '{kind}' names no architecture that can be used",
        )
    network.set_submodule(heads[-1], nn.Identity())
    left_out = (*_AUXILIARY, f"{heads[-1]}.")
    found = {
        name: value
        for name, value in weights.items()
        if not name.startswith(left_out) and not name.endswith(_ONLY_IN_TRAINING)
    }
    expected = {
        name: value.shape for name, value in network.state_dict().items() if not name.endswith(_ONLY_IN_TRAINING)
    }
    wrong = _differences(expected, found)
    if wrong:
        more = f" and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        raise FeatureNetworkError(
            f"The feature network's file does not hold the weights of torchvision's {architecture}: "
            f"{'; '.join(wrong[:_MOST_NAMED])}{more}. Export them so: {_EXPORT}.",
            public=f"the file of the feature network '{kind}' holds other weights than its architecture has",
        )
    network.load_state_dict(found, strict=False)
    return network


def _differences(expected: Mapping[str, torch.Size], found: Mapping[str, Tensor]) -> list[str]:
    """Say which entries are missing, too many or of another shape."""
    missing = [f"{name} is missing" for name in expected if name not in found]
    further = [f"{name} is unknown" for name in found if name not in expected]
    shapes = [
        f"{name} must be {list(shape)}, got {list(found[name].shape)}"
        for name, shape in expected.items()
        if name in found and found[name].shape != shape
    ]
    return [*missing, *further, *shapes]
