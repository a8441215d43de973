"""Which images get no answer: tests, thresholds from held-out images, and what they catch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from experiments.heads.embedded import Embedded
from experiments.heads.plan import TESTS
from fl_app.classification.heads import Head, nearest_distance
from fl_app.classification.model import ClassifierModel

Array = NDArray[np.float64]

CAUGHT = ("uniform noise", "Gaussian noise", "constant", "another data set", "wrong answers", "right answers")

_TEMPERATURES = np.geomspace(0.05, 1000.0, 87)  # steps of 12 %
_CONSTANT = ("black", "grey", "white")


@dataclass(frozen=True, eq=False)
class Values:
    """A test's values: the larger, the stranger the image.

    Attributes:
        held_out: [V].
        others: [M] by name, of the images that it is tried on.
    """

    held_out: Array
    others: dict[str, Array]


def share_caught(embedded: Embedded, head: Head, quantile: float) -> dict[str, dict[str, float]]:
    """Return which share of images each test of the plan gives no answer: by test, then by the names of CAUGHT.

    Args:
        embedded: the classifier and its images.
        head: the one that ships.
        quantile: the share of the held-out images that get an answer.
    """
    is_right = np.argmax(head.scores(embedded.test), axis=1) == embedded.test_labels
    groups = {
        "uniform noise": embedded.strange["uniform noise"],
        "Gaussian noise": embedded.strange["Gaussian noise"],
        "constant": np.concatenate([embedded.strange[name] for name in _CONSTANT]),
        "another data set": embedded.strange["another data set"],
        "wrong answers": embedded.test[~is_right],
        "right answers": embedded.test[is_right],
    }
    tests = measure_tests(embedded, head, groups) | {"pixels": _pixels(embedded, is_right)}
    return {name: _caught([tests[one] for one in name.split(" or ")], quantile) for name in TESTS}


def measure_tests(embedded: Embedded, head: Head, groups: Mapping[str, Array]) -> dict[str, Values]:
    """Return the values of each single test, on the held-out images and on groups of embeddings."""
    classifier, linear = embedded.classifier, embedded.classifier.heads["linear"]
    root = whitening(classifier)
    temperature = best_temperature(head.scores(embedded.validation), embedded.validation_labels)

    def euclid(f: Array) -> Array:
        return nearest_distance(classifier.prototypes, classifier.known, f)

    def mahalanobis(f: Array) -> Array:
        return nearest_distance(classifier.prototypes @ root, classifier.known, f @ root)

    def unsure(f: Array) -> Array:  # 1 - p as a sum of the others' p: exact where p is all but 1
        shares = np.sort(np.exp(log_softmax(head.scores(f) / temperature, axis=1)), axis=1)
        return np.asarray(shares[:, :-1].sum(axis=1))

    def energy(f: Array) -> Array:
        return np.asarray(-logsumexp(linear.scores(f), axis=1))

    tests = {"euclid": euclid, "mahalanobis": mahalanobis, "unsure": unsure, "energy": energy}
    return {
        name: Values(test(embedded.validation), {group: test(f) for group, f in groups.items()})
        for name, test in tests.items()
    }


def _pixels(embedded: Embedded, is_right: NDArray[np.bool_]) -> Values:
    found = embedded.pixels
    groups = {name: found[name] for name in ("uniform noise", "Gaussian noise", "another data set")}
    groups |= {"constant": np.concatenate([found[name] for name in _CONSTANT])}
    return Values(
        found["validation"],
        groups | {"wrong answers": found["test"][~is_right], "right answers": found["test"][is_right]},
    )


def whitening(classifier: ClassifierModel) -> Array:
    """Return R with R R' the inverse of lda's covariance: Euclid's distance of f R is that of Mahalanobis."""
    pooled = classifier.pooled
    count = pooled["count"]
    means = pooled["sum"] / np.where(count > 0, count, 1.0)[:, None]
    within = (pooled["outer"] - (count[:, None] * means).T @ means) / count.sum()
    shrunk = within + classifier.shrinkage * np.trace(within) / len(within) * np.eye(len(within))
    values, vectors = np.linalg.eigh(shrunk)
    return np.asarray(vectors / np.sqrt(values))


def best_temperature(scores: Array, labels: NDArray[np.int64]) -> float:
    """Return what to divide scores by so that the right class of held-out images is likeliest; below 1, too."""
    own = [log_softmax(scores / t, axis=1)[np.arange(len(labels)), labels] for t in _TEMPERATURES]
    costs = [-values[np.isfinite(values)].sum() for values in own]
    return float(_TEMPERATURES[int(np.argmin(costs))])


def threshold(values: Array, quantile: float) -> float:
    """Return the smallest value up to which that share of the images lies."""
    return float(np.sort(values)[math.ceil(quantile * len(values) - 1e-9) - 1])


def _caught(tests: list[Values], quantile: float) -> dict[str, float]:
    """Return the share of each group that one test or more gives no answer; several share the held-out images' loss."""
    each = 1.0 - (1.0 - quantile) / len(tests)
    limits = [threshold(test.held_out, each) for test in tests]
    found = {}
    for name in tests[0].others:
        flags = [test.others[name] > limit for test, limit in zip(tests, limits, strict=True)]
        found[name] = float(np.any(flags, axis=0).mean()) if len(flags[0]) else math.nan
    return found
