"""Figures of image quality, from the sums of all sites; each with what it was measured on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fl_app.files import KEBAB
from fl_app.metrics.generation import frechet_distance, kernel_distance, neighbour_figures
from fl_app.metrics.intervals import wilson
from fl_app.quality.measuring import KINDS, kernel_of, moments_of
from fl_app.sums import Sums, add, mean

FRECHET, KERNEL, LABELS = "frechet-distance", "kernel-distance", "label-accuracy"
NEIGHBOURS = ("precision", "recall", "density", "coverage")
TRAINED_ON = ("synthetic", "real", "both")

_LEVEL = 0.95


@dataclass(frozen=True)
class Figure:
    """One figure of generated images.

    Attributes:
        name: such as `frechet-distance`.
        features: network whose features are compared; empty: none.
        class_name: of the images; None: all classes.
        value: None if it is not defined.
        error: standard error over the real images, if known.
        interval: of 95 %, if known.
        floor: the same figure of real training images in place of generated ones; None: not defined, or no such thing.
        num_real: real test images.
        num_generated: generated images.
        num_sites: whose images are in it.
        reason: why there is no value.
    """

    __pydantic_config__ = KEBAB

    name: str
    features: str
    class_name: str | None
    value: float | None
    error: float | None = None
    interval: tuple[float, float] | None = None
    floor: float | None = None
    num_real: int = 0
    num_generated: int = 0
    num_sites: int = 0
    reason: str | None = None


def quality_figures(
    network: str, class_names: Sequence[str], parts: Mapping[str, Sums], generated: Sums, neighbours: int
) -> Iterator[Figure]:
    """Yield the figures in the features of one network.

    Args:
        network: its name.
        class_names: K names.
        parts: `measuring.measure_quality` of each site.
        generated: `metrics.generation.feature_sums` of the generated images, with K + 1 groups.
        neighbours: k.
    """
    if not parts:
        for name in (FRECHET, KERNEL, *NEIGHBOURS):
            yield Figure(name, network, None, None, reason="no site measured it")
        return
    total = add(parts.values())
    for label, class_name in ((None, None), *enumerate(class_names)):
        yield _frechet(network, class_name, label, parts, total, generated)
    yield _kernel(network, parts)
    yield from _neighbours(network, total, parts, neighbours)


def label_figure(wanted: NDArray[np.int64], found: NDArray[np.int64]) -> Figure:
    """Return the share of generated images that the run's classifier takes for the class that they were drawn as.

    Args:
        wanted: [N].
        found: [N], the classifier's answers.
    """
    share = mean(float((wanted == found).sum()), len(wanted))
    interval = None if share is None else wilson(share, float(len(wanted)), _LEVEL)
    reason = "no image was generated" if share is None else None
    return Figure(LABELS, "", None, share, interval=interval, num_generated=len(wanted), reason=reason)


def usefulness_figures(parts: Mapping[str, Sums], num_generated: int) -> Iterator[Figure]:
    """Yield the accuracy on real test images of classifiers that nodes trained on generated images, real ones and both.

    Args:
        parts: `usefulness.usefulness` of each site.
        num_generated: images that each site received.
    """
    for variant in TRAINED_ON:
        found = {site: sums[variant] for site, sums in parts.items() if sums[variant].any()}
        right, images = np.sum([*found.values(), np.zeros((2, 1))], axis=0).sum(axis=1)
        share = mean(right, images)
        yield Figure(
            f"trained-on-{variant}",
            "",
            None,
            share,
            interval=None if share is None else wilson(share, float(images), _LEVEL),
            num_real=int(images),
            num_generated=0 if variant == "real" else num_generated,
            num_sites=len(found),
            reason="no site measured it" if share is None else None,
        )


def _frechet(
    network: str, class_name: str | None, label: int | None, parts: Mapping[str, Sums], total: Sums, generated: Sums
) -> Figure:
    def images(sums: Sums) -> float:
        return float(sums["count"].sum() if label is None else sums["count"][label])

    real, floor = moments_of(total, "moments"), moments_of(total, "floor-moments")
    value = frechet_distance(real, generated, label)
    return Figure(
        FRECHET,
        network,
        class_name,
        value,
        floor=frechet_distance(real, floor, label),
        num_real=int(images(real)),
        num_generated=int(images(generated)),
        num_sites=sum(images(moments_of(part, "moments")) > 0 for part in parts.values()),
        reason="fewer than two real or generated images, or the sites have too few images to send their moments"
        if value is None
        else None,
    )


def _kernel(network: str, parts: Mapping[str, Sums]) -> Figure:
    found, floor = (kernel_distance({site: kernel_of(part, kind) for site, part in parts.items()}) for kind in KINDS)
    if found is None:
        return Figure(KERNEL, network, None, None, reason="no site has two real images")
    return Figure(
        KERNEL,
        network,
        None,
        found.value,
        error=found.error,
        floor=None if floor is None else floor.value,
        num_real=found.num_real,
        num_generated=max(int(part["generated/kernel-num-generated"][0]) for part in parts.values()),
        num_sites=found.num_sites,
    )


def _neighbours(network: str, total: Sums, parts: Mapping[str, Sums], neighbours: int) -> Iterator[Figure]:
    found, floor = (neighbour_figures({"counts": total[f"{kind}/neighbours"]}, neighbours) for kind in KINDS)
    counted = [part["generated/neighbours"] for part in parts.values() if part["generated/neighbours"].any()]
    num_real = int(sum(counts[4] for counts in counted))
    for name in NEIGHBOURS:
        yield Figure(
            name,
            network,
            None,
            found[name],
            floor=floor[name],
            num_real=num_real,
            num_generated=max((int(counts[5]) for counts in counted), default=0),
            num_sites=len(counted),
            reason=f"no site has more than {neighbours} real images" if found[name] is None else None,
        )
