"""Figures of image quality, from the sums of all sites; each with what it was measured on."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fl_app.metrics.generation import frechet_distance, kernel_distance, neighbour_figures
from fl_app.metrics.intervals import wilson
from fl_app.quality.figure import FRECHET, KERNEL, LABELS, NEIGHBOURS, TRAINED_ON, Figure
from fl_app.quality.measuring import KINDS, kernel_of, moments_of
from fl_app.sums import FEWEST_SITES, Sums, add, mean

_LEVEL = 0.95
_MOST_SHARE = 0.2  # that precision, recall, density or coverage may change without one site
_MOST_ACCURACY = 0.1  # the same of an accuracy
_FEWEST_OF_CLASS = 20  # real and generated images; of fewer a distance says nothing
_MOST_FACTOR = 10.0  # of a Fréchet distance's floor, or of an error
_MOST_FEATURES = 512  # with which figures are computed again without each site
_TINY = 1e-12


def quality_figures(
    network: str, class_names: Sequence[str], parts: Mapping[str, Sums], generated: Sums, neighbours: int
) -> Iterator[Figure]:
    """Yield the figures in the features of one network.

    Args:
        network: its name.
        class_names: K names.
        parts: `measuring.measure_quality` of each site.
        generated: `metrics.generation.feature_sums` of the generated images, with `num_groups` groups. Of one group
            there are no figures by class.
        neighbours: k.
    """
    if not parts:
        for name in (FRECHET, KERNEL, *NEIGHBOURS):
            yield Figure(name, network, None, None, reason="no site measured it")
        return
    found = list(_figures(network, class_names, parts, generated, neighbours))
    without: dict[str, dict[str, Figure]] = {}
    if len(parts) >= FEWEST_SITES and generated["sum"].shape[1] <= _MOST_FEATURES:
        for site in parts:
            others = {other: part for other, part in parts.items() if other != site}
            without[site] = {one.name: one for one in _figures(network, (), others, generated, neighbours)}
    for one in found:
        if one.class_name is not None or not without:
            yield one
            continue
        # of those without which it is another one, the one that moves it most: false sums of one site also make it
        # rest, by a factor, on honest ones
        moved = {site: _moved(one, others[one.name]) for site, others in without.items()}
        resting = [site for site, others in without.items() if _change(one, others[one.name]) > 1.0]
        yield replace(one, rests_on=max(resting, key=lambda site: moved[site], default=None))


def _figures(
    network: str, class_names: Sequence[str], parts: Mapping[str, Sums], generated: Sums, neighbours: int
) -> Iterator[Figure]:
    total = add(parts.values())
    by_class = enumerate(class_names) if len(generated["count"]) > 1 else ()
    for label, class_name in ((None, None), *by_class):
        yield _frechet(network, class_name, label, parts, total, generated)
    yield _kernel(network, parts)
    yield from _neighbours(network, total, parts, neighbours)


def label_figure(
    wanted: NDArray[np.int64], found: NDArray[np.int64], accuracy: float | None = None, num_real: int = 0
) -> Figure:
    """Return the share of generated images that the run's classifier takes for the class that they were drawn as.

    Args:
        wanted: [N].
        found: [N], the classifier's answers.
        accuracy: of the same classifier on real test images: the floor.
        num_real: test images that it was measured on.
    """
    share = mean(float((wanted == found).sum()), len(wanted))
    return Figure(
        LABELS,
        "",
        None,
        share,
        interval=None if share is None else wilson(share, float(len(wanted)), _LEVEL),
        floor=accuracy,
        num_real=num_real,
        num_generated=len(wanted),
        reason="no image was generated" if share is None else None,
    )


def usefulness_figures(parts: Mapping[str, Sums], num_generated: int) -> Iterator[Figure]:
    """Yield the accuracy on real test images of classifiers that nodes trained on generated images, real ones and both.

    Args:
        parts: `usefulness.usefulness` of each site.
        num_generated: images that each site received.
    """
    for variant in TRAINED_ON:
        found = {site: sums[variant].sum(axis=1) for site, sums in parts.items() if sums[variant].any()}
        right, images = (float(sum(one[row] for one in found.values())) for row in range(2))
        share = mean(right, images)
        moved = {
            site: abs(share - (right - one[0]) / (images - one[1]))
            for site, one in found.items()
            if share is not None and images > one[1]
        }
        most = max(moved, key=lambda site: moved[site], default="")
        yield Figure(
            f"trained-on-{variant}",
            "",
            None,
            share,
            interval=None if share is None else wilson(share, images, _LEVEL),
            num_real=int(images),
            num_generated=0 if variant == "real" else num_generated,
            num_sites=len(found),
            rests_on=most if len(found) >= FEWEST_SITES and moved.get(most, 0.0) > _MOST_ACCURACY else None,
            reason="no site measured it" if share is None else None,
        )


def _change(one: Figure, other: Figure) -> float:
    """Return how far a figure, its floor or its error moves if a site is left out; more than 1: it is another one.

    1 is a factor of two of a distance, beyond twice its standard error and twice its floor; a factor of ten of an
    error, or of the floor of a Fréchet distance, which lacks classes without a site; as much of the floor of a kernel
    distance, beyond four times the floor's standard error; 0.2 of a share, or 0.6 of its floor.
    """
    if one.value is None or other.value is None:
        return 0.0 if one.value is other.value else math.inf
    floors = (one.floor or 0.0, other.floor or 0.0)
    if one.name in NEIGHBOURS:
        return max(abs(one.value - other.value) / _MOST_SHARE, _apart(*floors) / (3.0 * _MOST_SHARE))
    errors = (one.error or 0.0, other.error or 0.0)
    size = min(abs(one.value), abs(other.value))
    moved = abs(one.value - other.value) / max(size, 2.0 * min(map(abs, floors)), 2.0 * min(errors), _TINY)
    if one.name == FRECHET:
        return max(moved, _factor(*floors) / _MOST_FACTOR)
    noise = 4.0 * min(one.floor_error or 0.0, other.floor_error or 0.0)
    of_floor = _apart(*floors) / max(size, 2.0 * min(errors), noise, _TINY)
    of_errors = [errors, (one.floor_error or 0.0, other.floor_error or 0.0)]
    return max(moved, of_floor, *(_factor(*pair) / _MOST_FACTOR for pair in of_errors))


def _moved(one: Figure, other: Figure) -> float:
    """Return how far a figure, its floor and their errors move, in its own unit."""
    pairs = [(one.value, other.value), (one.floor, other.floor), (one.error, other.error)]
    pairs.append((one.floor_error, other.floor_error))
    return sum(math.inf if (a is None) != (b is None) else _apart(a or 0.0, b or 0.0) for a, b in pairs)


def _apart(one: float, other: float) -> float:
    return abs(one - other)


def _factor(one: float, other: float) -> float:
    low, high = sorted((max(one, _TINY), max(other, _TINY)))
    return high / low


def _frechet(
    network: str, class_name: str | None, label: int | None, parts: Mapping[str, Sums], total: Sums, generated: Sums
) -> Figure:
    def images(sums: Sums) -> float:
        return float(sums["count"].sum() if label is None else sums["count"][label])

    real, floor = moments_of(total, "moments"), moments_of(total, "floor-moments")
    if label is not None and 0 < min(images(real), images(generated)) < _FEWEST_OF_CLASS:
        return Figure(
            FRECHET,
            network,
            class_name,
            None,
            num_real=int(images(real)),
            num_generated=int(images(generated)),
            reason=f"fewer than {_FEWEST_OF_CLASS} real or generated images of this class",
        )
    value = frechet_distance(real, as_frequent(generated, real) if label is None else generated, label)
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


def as_frequent(generated: Sums, real: Sums) -> Sums:
    """Return the moments of generated images as if classes were as frequent among them as among the real ones.

    They are drawn so, but a site may be missing, or have too few images to send moments. Unchanged if they are as
    frequent, up to one image, or if the real images of a class are not known by themselves.
    """
    counts, wanted = generated["count"], real["count"]
    if len(counts) == 1 or wanted[-1] > 0 or wanted.sum() == 0 or ((counts == 0) & (wanted > 0)).any():
        return generated
    if (np.abs(counts - wanted / wanted.sum() * counts.sum()) < 1.0).all():
        return generated
    shares = np.divide(wanted, counts, out=np.zeros_like(wanted), where=counts > 0)
    weights = shares * counts.sum() / wanted.sum()
    return {
        "count": counts * weights,
        "sum": generated["sum"] * weights[:, None],
        "outer": generated["outer"] * weights[:, None, None],
    }


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
        floor_error=None if floor is None else floor.error,
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
