"""Weights of a curious coordinator: an embedding of its choice, and one that is zero for all images but one.

The built-in `cnn` becomes a plain layer over the pixels: in each group of channels two large constants, which cancel,
make GroupNorm divide every image by the same number. Then the embedding is ReLU(A x + b), with A and b of the
coordinator's choice.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from fl_app.classification.network import Classifier, build_network
from fl_app.data.images import DatasetInfo
from fl_app.messages.arrays import Weights, to_numpy, to_tensors
from tests.node.coordinator import CLASSES, NUM_PIXELS, SIDE, Array, initial, options_of_run
from tests.options import run_config

_LARGE = 10.0  # the constants beside which the pixels hardly matter to GroupNorm
_CARRIED = {1: (0, 1, 8, 9), 2: tuple(8 * group + one for group in range(4) for one in range(4))}  # channels of pixels
HONEST_SEED = 3  # of a run whose random network, trained or not, shows much of its images
_TAKEN = [(2, 2), (2, 3), (3, 2), (3, 3)]  # places in a 5 x 5 filter of stride 2: the four pixels of a cell


class Reader:
    """A network whose embedding the coordinator chooses.

    Attributes:
        network: the cnn; only `features.7` (Z to D) and `linear` are left to choose.
        inverse: [P, Z + 1], the affine map from what `features.7` gets to the pixels in [-1, 1].
    """

    def __init__(self, size: int, *, is_honest: bool = False, side: int = SIDE) -> None:
        self.network: Classifier = build_network(DatasetInfo(CLASSES, 1, side), "cnn", size)
        options = {**options_of_run(size), "data.image-size": side, "seed": HONEST_SEED if is_honest else 0}
        self.network.load_state_dict(to_tensors(initial(run_config(options))))
        if not is_honest:
            with torch.no_grad():
                _let_pixels_through(self.network)
        self.inverse = self._fit(side)

    def weights(self, rows: Array, offsets: Array, last: Array | None = None) -> Weights:
        """Return weights with which the embedding is ReLU(rows x + offsets), in its first len(rows) coordinates.

        Args:
            rows: [R, P], of pixels in [-1, 1].
            offsets: [R].
            last: [K, D], of the last layer; None: as it is.
        """
        found = {name: np.array(value) for name, value in to_numpy(self.network.state_dict()).items()}
        through = rows @ self.inverse
        found[self.hidden + ".weight"][: len(rows)] = through[:, :-1]
        found[self.hidden + ".bias"][: len(rows)] = through[:, -1] + offsets
        if last is not None:
            found["linear.weight"], found["linear.bias"] = last.astype(np.float32), np.zeros(len(last), np.float32)
        return found

    @property
    def hidden(self) -> str:
        """The name of the layer from Z to D."""
        return next(
            f"features.{number}" for number, one in self.network.features.named_children() if isinstance(one, nn.Linear)
        )

    def _fit(self, side: int) -> Array:
        """Fit the map to the pixels with made-up pictures, which need not look like the hospital's."""
        generator = np.random.default_rng(1)
        coarse = generator.normal(size=(4000, 1, 4, 4)).astype(np.float32)
        smooth = nn.functional.interpolate(torch.from_numpy(coarse), (side, side), mode="bicubic")
        pictures = (0.25 * smooth + 0.2 * torch.from_numpy(generator.normal(size=smooth.shape))).clip(-1, 1).float()
        with torch.no_grad():
            front = nn.Sequential(*list(self.network.features.children())[:-2])
            z = front(pictures).double().numpy()
        z = np.hstack([z, np.ones((len(z), 1))])
        ridge = 1e-6 * np.trace(z.T @ z) / len(z.T) * np.eye(len(z.T))
        return np.asarray(np.linalg.solve(z.T @ z + ridge, z.T @ pictures.flatten(1).double().numpy()).T)


def _let_pixels_through(network: Classifier) -> None:
    layers = list(network.features.children())
    for number, (convolution, normed) in enumerate([layers[0:2], layers[3:5]], 1):
        assert isinstance(convolution, nn.Conv2d) and isinstance(normed, nn.GroupNorm) and convolution.bias is not None
        for parameter in (*convolution.parameters(), *normed.parameters()):
            parameter.zero_()
        carried = _CARRIED[number]
        sources = [0] * len(carried) if number == 1 else [channel for channel in _CARRIED[1] for _ in _TAKEN]
        for place, (channel, source) in enumerate(zip(carried, sources, strict=True)):
            row, column = _TAKEN[place % len(_TAKEN)]
            convolution.weight[channel, source, row, column] = 1.0
            normed.weight[channel] = _LARGE / 2.0
            normed.bias[channel] = 2.0  # so that no ReLU cuts a pixel off
        for group in range(0, convolution.out_channels, 8):
            convolution.bias[group + 6], convolution.bias[group + 7] = _LARGE, -_LARGE


def mask() -> Array:
    """Return a random direction along which the hospital's images lie about 1 apart."""
    return np.random.default_rng(5).choice([-1.0, 1.0], NUM_PIXELS) * 6.0 / SIDE


def through_gate(sums: Callable[[Array, Array], Array], num_thresholds: int = NUM_PIXELS) -> Array:
    """Return the image that is brightest under a mask, plus a constant: two questions, whatever the number of images.

    Above the threshold that the second brightest image does not reach, the sum of ReLU(brightness - threshold) is that
    of one image, and falls evenly.

    Args:
        sums: tells sums of ReLU(rows x + offsets) over the images, each perhaps times a number of the image.
        num_thresholds: among which the right one is looked for.
    """
    direction, grid = mask(), np.linspace(-6.0, 6.0, num_thresholds)
    found = sums(np.tile(direction, (num_thresholds, 1)), -grid)
    reached = np.flatnonzero(np.abs(found) > 1e-4)
    if len(reached) < 2:
        return np.zeros(NUM_PIXELS)
    last = int(reached[-1])
    slopes = -np.diff(found)
    first = last - 1
    while first > 0 and abs(slopes[first - 1] - slopes[last - 1]) < 0.02 * abs(slopes[last - 1]):
        first -= 1
    threshold = (grid[first] + grid[last]) / 2.0
    steep = 4.0 / (threshold - grid[first])
    return sums(np.eye(NUM_PIXELS) + steep * direction, np.full(NUM_PIXELS, 1.0 - steep * threshold))
