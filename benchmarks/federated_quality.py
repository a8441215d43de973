"""Image quality from the sums of several sites beside the same images in one place.

Ten made "generators" are real images of a source's second half, five of them blurred and five noised to growing
degrees; the first half is split over sites. Features: the pixels, and the 64 of `benchmarks/features.py`.

Fréchet, difference   between the distance from the sites' added sums and the one from the features of all real images,
                      without any covariance matrix, over the latter; the largest of the ten
KID, equal ranks      generators that have the same rank by the sites' mean KID as by the KID of all real images
KID, offset           mean over the sites less the KID of all, at least and at most: equal numbers change no rank
error                 of the sites' mean KID, the median of the ten, over the spread of the ten
shares, density       the largest difference of precision, recall and coverage, and of density, between the two: sites
                      with fewer images have wider balls
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmarks.features import load_features
from benchmarks.models import default_config
from benchmarks.output import Row, parser, run
from fl_app.data.images import ImageSet
from fl_app.data.loading import to_bytes, to_float
from fl_app.data.partition import partition
from fl_app.data.sources import load_split
from fl_app.metrics.generation import (
    KernelDistance,
    feature_sums,
    frechet_distance,
    kernel_distance,
    kernel_sums,
    neighbour_figures,
    neighbour_sums,
)
from fl_app.options.run import RunConfig
from fl_app.options.sections import OptionValue
from fl_app.quality.features import Pixels, set_features
from fl_app.seeding import numpy_generator_for
from fl_app.sums import Sums, add

Array = NDArray[np.float64]

_SPLITS: dict[str, dict[str, OptionValue]] = {
    "iid": {"partition.scheme": "iid"},
    "Dirichlet 0.5": {"partition.scheme": "dirichlet", "partition.alpha": 0.5},
    "Dirichlet 0.1": {"partition.scheme": "dirichlet", "partition.alpha": 0.1},
}
_DEGREES = (1, 2, 3, 4, 5)
_CPU = torch.device("cpu")


class _Judge(torch.nn.Module):
    """The feature network as a module of features."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self.network = load_features(config.data, 2, 0, None).network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return [B, 64] of images [B, C, H, W] in [-1, 1]."""
        return self.network.features(images)


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each kind of features and each split."""
    config = default_config({"data.source": arguments.source, "data.image-size": arguments.image_size})
    train = load_split(config.data, "train", arguments.seed)
    order = numpy_generator_for(arguments.seed, "federated quality").permutation(len(train))
    real, other = np.array_split(order[: 2 * arguments.num_images], 2)
    generators = [made(train.select(torch.from_numpy(other)), kind, d) for kind in ("blur", "noise") for d in _DEGREES]
    images = train.select(torch.from_numpy(real))
    for features, network in (("pixels", Pixels()), ("64 of a classifier", _Judge(config))):
        x = set_features(network, images, _CPU)
        drawn = [set_features(network, one, _CPU) for one in generators]
        for split, options in _SPLITS.items():
            sections = default_config(options).partition
            sites = partition(images.labels.numpy(), arguments.sites, sections, arguments.seed)
            row: Row = {
                "features": features,
                "split": split,
                "images of sites": " ".join(str(len(one)) for one in sites),
            }
            yield row | compare(x, [x[one] for one in sites], drawn)


def made(images: ImageSet, kind: str, degree: int) -> ImageSet:
    """Return the images blurred, by 0.2 pixels a degree, or with noise of std 0.05 (of a range of 2) a degree."""
    pixels = to_float(images.images).numpy()
    if kind == "blur":
        pixels = gaussian_filter(pixels, (0.0, 0.0, 0.2 * degree, 0.2 * degree))
    else:
        pixels = pixels + 0.05 * degree * numpy_generator_for(degree, "noise").standard_normal(pixels.shape)
    return ImageSet(to_bytes(torch.from_numpy(pixels)), images.labels, images.class_names)


def compare(x: Array, sites: Sequence[Array], generators: Sequence[Array]) -> Row:
    """Compare the figures from sites with those of all real images; `x`: [N, D]."""
    sums = add(_sums(site) for site in sites)
    distances = [(frechet_distance(sums, _sums(g)), pooled_frechet(x, g)) for g in generators]
    means = [_kernel({str(i): kernel_sums(site, g) for i, site in enumerate(sites)}) for g in generators]
    values = np.array([one.value for one in means])
    pooled = np.array([_kernel({"all": kernel_sums(x, g)}).value for g in generators])
    ranks = [one.argsort().argsort() for one in (values, pooled)]
    return {
        "Fréchet, difference": max(abs(found - expected) / expected for found, expected in distances if found),
        "KID, equal ranks": f"{int((ranks[0] == ranks[1]).sum())} of {len(generators)}",
        "offset, least": float((values - pooled).min()),
        "offset, most": float((values - pooled).max()),
        "error over spread": float(np.median([one.error for one in means])) / float(np.ptp(values)),
        "shares": max(_neighbour_difference(x, sites, g, "precision", "recall", "coverage") for g in generators),
        "density": max(_neighbour_difference(x, sites, g, "density") for g in generators),
    }


def pooled_frechet(x: Array, g: Array) -> float:
    """Return the distance from features: the trace of the root is the nuclear norm of the centred sets' product."""
    a, b = ((f - f.mean(axis=0)) / np.sqrt(len(f) - 1) for f in (x, g))
    cross = float(np.linalg.svd(a @ b.T, compute_uv=False).sum())
    return float(((x.mean(axis=0) - g.mean(axis=0)) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2.0 * cross)


def _neighbour_difference(x: Array, sites: Sequence[Array], g: Array, *names: str) -> float:
    found, expected = (neighbour_figures(add(neighbour_sums(f, g) for f in sets)) for sets in (sites, [x]))
    return max(abs((found[name] or 0.0) - (expected[name] or 0.0)) for name in names)


def _kernel(parts: Mapping[str, Sums]) -> KernelDistance:
    found = kernel_distance(parts)
    assert found is not None
    return found


def _sums(features: Array) -> Sums:
    return feature_sums(features, np.zeros(len(features), dtype=np.int64), 1)


def main() -> None:
    """Read the arguments and measure."""
    arguments = parser(__doc__)
    arguments.add_argument("--source", default="digits", help="of the real images (default: digits)")
    arguments.add_argument("--image-size", type=int, default=0, help="in pixels (default: the source's)")
    arguments.add_argument(
        "--num-images", type=int, default=700, help="real ones, and of each generator (default: 700)"
    )
    arguments.add_argument("--sites", type=int, default=5, help="(default: 5)")
    arguments.add_argument("--seed", type=int, default=0, help="of the choice of images and the splits (default: 0)")
    run(measure, arguments.parse_args())


if __name__ == "__main__":
    main()
