"""Rejects sums of image quality that no images could have produced."""

import math
from collections.abc import Sequence

import numpy as np

from fl_app.errors import RejectedReply
from fl_app.quality.measuring import KINDS, moments_of
from fl_app.sums import ROUNDING, Sums, are_counts


def check_quality(
    sums: Sums,
    test_counts: Sequence[int] | None,
    train_counts: Sequence[int] | None,
    num_generated: int,
    neighbours: int,
    largest: float = math.inf,
) -> None:
    """Raise RejectedReply if a site's sums contradict each other, or the site's description.

    Args:
        sums: from `measuring.measure_quality`, of the expected names and shapes, all finite.
        test_counts: test images of each class, as the site described them; None: unknown.
        train_counts: the same of training images.
        num_generated: images that were sent.
        neighbours: k.
        largest: a feature can be, in absolute value.

    Raises:
        RejectedReply: with the reason.
    """
    most = None if test_counts is None else float(sum(test_counts))
    described = {"moments": test_counts, "floor-moments": train_counts}
    for name, counts in described.items():
        _check_moments(sums, name, counts, largest)
    for kind in KINDS:
        most_compared = float(num_generated) if kind == "generated" else most
        _check_neighbours(sums, kind, most, most_compared, neighbours)
        _check_kernel(sums, kind, most, most_compared, largest)


def check_usefulness(sums: Sums, test_counts: Sequence[int] | None) -> None:
    """Raise RejectedReply if counts of right answers contradict each other, or the site's description.

    Args:
        sums: from `usefulness.usefulness`.
        test_counts: test images of each class, as the site described them; None: unknown.

    Raises:
        RejectedReply: with the reason.
    """
    for name, (right, total) in sums.items():
        if not are_counts(right) or not are_counts(total) or (right > total).any():
            raise RejectedReply(f"its right answers of the classifier trained on '{name}' images are no counts")
        if test_counts is not None and total.any() and (total != np.asarray(test_counts)).any():
            raise RejectedReply(f"its classifier trained on '{name}' images was tested on other images than described")


def _check_moments(sums: Sums, name: str, counts: Sequence[int] | None, largest: float) -> None:
    most = None if counts is None else float(sum(counts))
    found = moments_of(sums, name)
    count, total, outer = found["count"], found["sum"], found["outer"]
    if not are_counts(count) or (most is not None and count.sum() > most):
        raise RejectedReply(f"its '{name}' do not count images, or more of them than it said it holds")
    if counts is not None and len(count) > 1 and (count[:-1] > np.asarray(counts)).any():
        raise RejectedReply(f"its '{name}' count more images of a class than it said it holds")
    if total[count == 0].any() or outer[count == 0].any():
        raise RejectedReply(f"its '{name}' of zero images are not 0")
    if math.isfinite(largest):
        most_sum = count[:, None] * largest * (1.0 + ROUNDING)
        if (np.abs(total) > most_sum).any() or (np.abs(outer) > most_sum[..., None] * largest).any():
            raise RejectedReply(f"its '{name}' are larger than those of any images")
    for number, one_sum, one_outer in zip(count, total, outer, strict=True):
        if number:
            scatter = one_outer - np.outer(one_sum, one_sum) / number
            size = float(np.trace(one_outer))
            if np.linalg.eigvalsh(scatter)[0] < -ROUNDING * size:
                raise RejectedReply(f"its second '{name}' are smaller than their means allow")


def _check_neighbours(sums: Sums, kind: str, most_real: float | None, most: float | None, neighbours: int) -> None:
    found = sums[f"{kind}/neighbours"]
    inside, recalled, balls, covered, real, other = found
    possible = (
        are_counts(found)
        and (most_real is None or real <= most_real)
        and (most is None or other <= most)
        and max(recalled, covered) <= real
        and inside <= other
        and max(inside, covered) <= balls <= real * other
        and (real == 0) == (other == 0)
        and (real == 0 or min(real, other) > neighbours)
    )
    if not possible:
        raise RejectedReply(f"its counts of neighbours of '{kind}' images are those of no images")


def _check_kernel(
    sums: Sums, kind: str, most_real: float | None, most: float | None, largest: float = math.inf
) -> None:
    values = {key: float(sums[f"{kind}/kernel-{key}"][0]) for key in _KERNEL}
    numbers = (values["num-real"], values["num-generated"])
    is_counted = all(number >= 0 and number == round(number) for number in numbers)
    if not is_counted or (most_real is not None and numbers[0] > most_real) or (most is not None and numbers[1] > most):
        raise RejectedReply(f"its kernel distance of '{kind}' images counts more images than there are")
    if values["variance"] < 0:
        raise RejectedReply(f"the variance of its kernel distance of '{kind}' images is negative")
    means = [values[key] for key in ("real", "cross", "generated")]
    if min(numbers) < 2 and any([*means, values["variance"]]):
        raise RejectedReply(f"its kernel distance of fewer than two '{kind}' images is not 0")
    if math.isfinite(largest) and min(numbers) >= 2:
        low, high = (1.0 - largest**2) ** 3, (1.0 + largest**2) ** 3  # of (x.y / D + 1)^3
        room = ROUNDING * high
        # a jackknife's term is at most three times that range (`metrics.generation.kernel_sums`)
        most_variance = 4.0 * (3.0 * (high - low)) ** 2 / (numbers[0] - 1.0)
        if min(means) < low - room or max(means) > high + room or values["variance"] > most_variance:
            raise RejectedReply(f"its kernel distance of '{kind}' images is that of no images")


_KERNEL = ("num-real", "num-generated", "real", "cross", "generated", "variance")
