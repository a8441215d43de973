"""Which sums of the last round are fit: what no image leads to is refused, whoever sends it."""

import numpy as np

from fl_app.classification.handover import check_moments
from fl_app.errors import FlAppError
from fl_app.metrics.additive import Statistics
from fl_app.strategies.admission import Refusal

_ROUNDING = 1e-6


def check_site_moments(moments: Statistics, train_counts: list[int] | None, max_images: float) -> None:
    """Raise Refusal for moments that contradict themselves, or what the site said of its images.

    Args:
        moments: from `classification.moments.measure_moments`; sums of no image are fit.
        train_counts: images of each class, as the site described them: more would outweigh the others. None: unknown.
        max_images: cap on all its images together; 0: none.

    Raises:
        Refusal: with the reason.
    """
    if not any(moments[key].any() for key in ("count", "sum", "outer")):
        _check_withheld(moments)
        return
    num_classes, embedding_size = moments["sum"].shape
    try:
        check_moments(moments, num_classes, embedding_size)
    except FlAppError as error:
        raise Refusal(str(error)) from None
    count = moments["count"]
    if train_counts is not None and (count > np.array(train_counts)).any():
        raise Refusal("its moments count more images than it said it holds")
    if 0 < max_images < count.sum():
        raise Refusal(f"its moments count {count.sum():g} images, 'admission.max-weight' allows {max_images:g}")
    means = moments["sum"] / np.sqrt(np.maximum(count, 1.0))[:, None]
    scatter = moments["outer"] - means.T @ means
    smallest = float(np.linalg.eigvalsh((scatter + scatter.T) / 2.0)[0])
    if smallest < -_ROUNDING * float(np.trace(moments["outer"])):
        raise Refusal("its second moment is smaller than its means allow")


def check_head_sums(
    sums: Statistics, validation_counts: list[int] | None, test_counts: list[int] | None = None
) -> None:
    """Raise Refusal for measurements of heads that contradict one another, or what the site said of its images.

    Args:
        sums: from `tasks.readings.measure_heads`.
        validation_counts: held-out images of each class, as the site described them: with more, one site alone would
            choose the head. None: unknown.
        test_counts: test images of each class, as the site described them: with more, one site alone would make the
            table. None: unknown.

    Raises:
        Refusal: with the reason.
    """
    support: dict[tuple[str, bool], np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = {}
    for key, value in sums.items():
        if "/nll" in key:  # likelihoods are no counts
            continue
        if (value < 0).any() or (value != np.round(value)).any():
            raise Refusal(f"its counts {key!r} are no whole numbers of at least 0")
        if not key.endswith("/confusion"):
            continue
        part, reading, _, _ = key.split("/")
        found = value.sum(axis=1)
        described = {"validation": validation_counts, "test": test_counts}[part]
        if described is not None and (found > np.array(described)).any():
            name = "held-out" if part == "validation" else "test"
            raise Refusal(f"it measured more {name} images than it said it holds")
        expected = support.setdefault((part, reading == "local"), found)
        classes_and_rest = sums[key.replace("/confusion", "/auroc")][0].sum(axis=-1)
        if (found != expected).any() or (classes_and_rest[:, 1] != found).any():
            raise Refusal("it measured its heads on different images")


def _check_withheld(moments: Statistics) -> None:
    if not np.isin(moments["withheld"], (0.0, 1.0)).all():
        raise Refusal("what it withholds must be 0 or 1 for each class")
