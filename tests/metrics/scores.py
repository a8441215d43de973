"""Made-up scores."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


def scored(
    seed: int, count: int = 300, num_classes: int = 4, certainty: float = 2.0, skill: float = 1.0
) -> tuple[Array, Labels]:
    """Scores that know a bit of their labels; `certainty` scales the scores without changing who wins."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, num_classes, count)
    scores = generator.standard_normal((count, num_classes))
    scores[np.arange(count), labels] += skill
    return certainty * scores, labels
