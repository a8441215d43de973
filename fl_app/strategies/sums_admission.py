"""Rejects prototype sums that no set of images could have produced."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from fl_app.classification.judging import check_moments
from fl_app.classification.measuring import linear_of
from fl_app.errors import FlAppError
from fl_app.messages.incoming import RejectedReply
from fl_app.metrics.faults import ROUNDING, are_counts, score_fault
from fl_app.metrics.further import is_further
from fl_app.metrics.paired import coarse_bins
from fl_app.metrics.patients import CC, DD, NC, ND, NN, PATIENTS, gram_matrices
from fl_app.sums import Sums

FaultOf = Callable[[Mapping[str, Sums], Sequence[int] | None], str | None]


def no_fault(models: Mapping[str, Sums], held_out: Sequence[int] | None) -> str | None:
    """Return None: accept all measurements."""
    return None


def check_measured(sums: Sums, names: Sequence[str], held_out: Sequence[int] | None, fault_of: FaultOf) -> None:
    """Raise RejectedReply if measurements of models are impossible.

    Args:
        sums: of each model, prefixed with its name and a slash.
        names: of the models.
        held_out: images of each class, as the site described them; None: unknown.
        fault_of: of the task.

    Raises:
        RejectedReply: with the reason.
    """
    models = {
        name: {key.removeprefix(f"{name}/"): value for key, value in sums.items() if key.startswith(f"{name}/")}
        for name in names
    }
    fault = fault_of(models, held_out)
    if fault:
        raise RejectedReply(fault)


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
        _check_counts(sums, prefix, linear, described)
        _check_patients(sums, prefix, linear)
    averaged = "validation/global/linear/confusion"
    if averaged in sums:
        totals = {sums[key].sum() for key in (averaged, "validation/distance", "validation/picture-distance")}
        if len(totals) > 1:
            raise RejectedReply("it measured distances and heads on different images")


def _check_counts(sums: Sums, prefix: str, linear: str, counts: list[int] | None) -> None:
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


def _check_patients(sums: Sums, prefix: str, linear: str) -> None:
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
