"""Rejects sums of an exchange of prototypes that no set of images could have produced."""

from itertools import pairwise

import numpy as np

from fl_app.classification.left_out import check_left_out
from fl_app.classification.measuring import linear_of
from fl_app.classification.moments import Moments, are_sums_of_pictures, blank_moments
from fl_app.errors import DataError, FlAppError, OptionError, RejectedReply
from fl_app.metrics.classification import score_fault
from fl_app.metrics.further import is_further
from fl_app.metrics.intervals import CC, DD, NC, ND, NN, PATIENTS, gram_matrices
from fl_app.metrics.paired import coarse_bins
from fl_app.sums import ROUNDING, Sums, are_counts

_ADDED_LATER = {"picture"}  # sums of older versions lack it


def check_moments(moments: Moments, num_classes: int, embedding_size: int) -> None:
    """Reject sums that no images could have produced under a network whose embedding ends in a ReLU.

    Args:
        moments: of one site.
        num_classes: K of the model.
        embedding_size: D of the model.

    Raises:
        OptionError: the sums have another K or D, so they belong to another model.
        DataError: a sum is missing, not finite, negative, or contradicts another one.
    """
    expected = blank_moments(num_classes, embedding_size)
    if moments.keys() | _ADDED_LATER != expected.keys():
        found = ", ".join(sorted(moments)) or "none"
        raise DataError(f"The sums must be {', '.join(expected)}; found {found}. Measure them again.")
    for name in (name for name in expected if name in moments):
        value, blank = moments[name], expected[name]
        if value.shape != blank.shape:
            raise OptionError(
                f"The sums do not fit the model: '{name}' is {list(value.shape)}, the model's {num_classes} "
                f"classes and {embedding_size} features make {list(blank.shape)}. Measure them with this very model."
            )
        if not np.isfinite(value).all():
            raise DataError(f"The sums '{name}' hold a number that is not finite: measure them again.")
        if name != "picture" and (value < 0).any():
            raise DataError(f"The sums '{name}' hold a negative number, which no image can produce: measure again.")
    _check_counts(moments)
    if "picture" in moments and not are_sums_of_pictures(moments["picture"], float(moments["count"].sum())):
        raise DataError("The sums 'picture' are not those of as many images as were counted: measure them again.")


def _check_counts(moments: Moments) -> None:
    count, withheld = moments["count"], moments["withheld"]
    if (count != np.round(count)).any() or not np.isin(withheld, (0.0, 1.0)).all() or (count * withheld).any():
        raise DataError("The counts of images must be whole numbers, and none of a withheld class: measure again.")
    if moments["sum"][count == 0].any():
        raise DataError("The sums of a class without images must be 0: measure again.")
    if not count.any():
        raise DataError("The sums are of zero images: every class is withheld or missing, so there is nothing to add.")
    squares = float(np.trace(moments["outer"]))
    of_means = float(((moments["sum"] ** 2).sum(axis=1) / np.maximum(count, 1.0)).sum())
    if of_means > squares * (1.0 + ROUNDING):
        raise DataError("The sums of squares are smaller than those of the means, which is impossible: measure again.")


def check_site_moments(moments: Sums, train_counts: list[int] | None, max_images: float | None) -> None:
    """Raise RejectedReply if moments contradict each other, or the site's description.

    Args:
        moments: from `classification.moments.measure_moments`; sums of zero images are allowed.
        train_counts: images of each class, as the site described them; with more it would outweigh the others.
            None: unknown.
        max_images: limit on its images in total; None: no limit.

    Raises:
        RejectedReply: with the reason.
    """
    if not any(value.any() for key, value in moments.items() if key != "withheld"):
        if not np.isin(moments["withheld"], (0.0, 1.0)).all():
            raise RejectedReply("its `withheld` must be 0 or 1 for each class")
        return
    num_classes, embedding_size = moments["sum"].shape
    try:
        check_moments(moments, num_classes, embedding_size)
    except FlAppError as error:
        raise RejectedReply(str(error)) from None
    count = moments["count"]
    if train_counts is not None and (count > np.array(train_counts)).any():
        raise RejectedReply("its moments count more images than it said it holds")
    if max_images is not None and count.sum() > max_images:
        raise RejectedReply(
            f"its moments count {count.sum():g} images, but it trained on {max_images:g} (or no site on more)"
        )
    means = moments["sum"] / np.sqrt(np.maximum(count, 1.0))[:, None]
    scatter = moments["outer"] - means.T @ means
    smallest = float(np.linalg.eigvalsh((scatter + scatter.T) / 2.0)[0])
    if smallest < -ROUNDING * float(np.trace(moments["outer"])):
        raise RejectedReply("its second moment is smaller than its means allow")


def check_head_sums(sums: Sums, validation_counts: list[int] | None, test_counts: list[int] | None = None) -> None:
    """Raise RejectedReply if measurements of heads contradict one another, or the site's description.

    Args:
        sums: from `classification.measuring.measure_heads`.
        validation_counts: held-out images of each class, as the site described them; with more, one site alone would
            choose the head. None: unknown.
        test_counts: test images of each class, as the site described them; with more, one site alone would decide the
            test figures. None: unknown.

    Raises:
        RejectedReply: with the reason.
    """
    for key, value in sums.items():
        if key.endswith(("/nll", "/nll-tempered", "/nll-runner-up")) or is_further(key):
            continue  # not counts: losses are checked below, and further figures choose nothing
        is_signed = key.endswith("/patients")  # one of them may be negative, and is checked below
        if not are_counts(np.abs(value) if is_signed else value):
            raise RejectedReply(f"its counts {key!r} are not whole numbers of at least 0")
    heads = [key.removesuffix("confusion") for key in sums if key.endswith("/confusion")]
    for prefix in heads:
        part, reading, _, _ = prefix.split("/")
        linear = f"{part}/{linear_of(reading)[0]}/linear/"
        described = {"validation": validation_counts, "test": test_counts}[part]
        _check_head_counts(sums, prefix, linear, described)
        _check_head_patients(sums, prefix, linear)
    averaged = "validation/global/linear/confusion"
    if averaged in sums:
        totals = {sums[key].sum() for key in (averaged, "validation/distance", "validation/picture-distance")}
        if len(totals) > 1:
            raise RejectedReply("it measured distances and heads on different images")
        check_left_out(sums, float(sums[averaged].sum()))


def _check_head_counts(sums: Sums, prefix: str, linear: str, counts: list[int] | None) -> None:
    """Raise RejectedReply if a head's counts contradict those of `linear`, or the described images of each class."""
    scores = {key.removeprefix(prefix): value for key, value in sums.items() if key.startswith(prefix)}
    fault = score_fault(scores, counts, "held-out" if prefix.startswith("validation/") else "test")
    if fault:
        raise RejectedReply(fault)
    confusion, linear_confusion = scores["confusion"], sums[f"{linear}confusion"]
    if (confusion.sum(axis=1) != linear_confusion.sum(axis=1)).any():
        raise RejectedReply("it measured its heads on different images")
    won, lost = scores["paired"].T
    right, wrong = np.diagonal(confusion), confusion.sum(axis=1) - np.diagonal(confusion)
    if (won > right).any() or (lost > wrong).any():
        raise RejectedReply("its paired counts include more images than its confusion matrices")
    if (right - won + lost != np.diagonal(linear_confusion)).any():
        raise RejectedReply("its paired counts and its confusion matrices contradict one another")
    if "joint" in scores:
        for name, axis in ((prefix, 2), (linear, 3)):
            if (scores["joint"].sum(axis=axis) != coarse_bins(sums[f"{name}auroc"])).any():
                raise RejectedReply("its joint counts of scores and those of each head contradict one another")


def _check_head_patients(sums: Sums, prefix: str, linear: str) -> None:
    found = sums[f"{prefix}patients"]
    if (found[[PATIENTS, NN]] != sums[f"{linear}patients"][[PATIENTS, NN]]).any():
        raise RejectedReply("it measured its heads on the images of different patients")
    won, lost = sums[f"{prefix}paired"].sum(axis=0)
    images, right = float(sums[f"{prefix}confusion"].sum()), float(np.trace(sums[f"{prefix}confusion"]))
    # A patient p has n_p images, c_p of them right, and d_p more right than under the linear head: whole numbers.
    chains = (
        (0.0, found[PATIENTS], images, found[NN], images**2),
        (0.0, right, found[CC], found[NC], found[NN]),
        (abs(won - lost), found[DD], found[NN]),
        (found[DD], (won + lost) ** 2),
        (abs(found[ND]), found[NN]),
    )
    is_ordered = all(one <= other for chain in chains for one, other in pairwise(chain))
    matrices = gram_matrices(found, images, right, won - lost)
    smallest = [np.linalg.eigvalsh(matrix)[0] + ROUNDING * np.trace(matrix) for matrix in matrices]
    if not is_ordered or (found[PATIENTS] == 0) != (images == 0) or min(smallest) < 0:
        raise RejectedReply("its sums over patients are those of no patients")
