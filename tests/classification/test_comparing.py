"""Which site's moments are rejected if sites contradict one another."""

from collections.abc import Mapping

import numpy as np

from fl_app.classification.comparing import contradicted
from fl_app.classification.moments import Moments

D = 4


def part(means: Mapping[int, list[float]], count: int = 20) -> Moments:
    """Return the moments of a site whose images of each class all have the class's mean."""
    counts, sums = np.zeros(4), np.zeros((4, D))
    for label, mean in means.items():
        counts[label], sums[label] = count, count * np.array(mean)
    return {"count": counts, "sum": sums, "outer": (sums / np.maximum(counts, 1.0)[:, None]).T @ sums}


ZERO, ONE, TWO = [5.0, 1.0, 1.0, 1.0], [1.0, 5.0, 1.0, 1.0], [1.0, 1.0, 5.0, 1.0]
ELSEWHERE = [1.0, 1.0, 1.0, 5.0]
ODD = [4.0, 3.7, 1.0, 1.0]  # of class 1 at an honest site, nearer to class 0


def test_the_most_contradicted_site_has_no_say_on_the_others() -> None:
    """The liar and a contradict b, and d confirms it; a and two more contradict the liar."""
    honest = {
        "a": part({0: ZERO, 1: ONE, 2: TWO}),
        "b": part({1: ODD}),
        "c": part({0: ZERO, 2: TWO}),
        "d": part({1: ONE, 2: TWO}),
        "e": part({0: ZERO, 2: TWO}),
    }
    assert contradicted(honest) == {}
    liar = part({0: TWO, 1: ELSEWHERE, 2: ZERO})
    assert list(contradicted({**honest, "liar": liar})) == ["liar"]


def test_class_means_in_the_middle_between_two_classes_are_rejected() -> None:
    honest = {str(number): part({0: ZERO, 1: ONE, 2: TWO}) for number in range(3)}
    moved = {
        label: [0.45 * x + 0.55 * y for x, y in zip(*pair, strict=True)]
        for label, pair in {0: (ZERO, ONE), 1: (ONE, TWO), 2: (TWO, ZERO)}.items()
    }
    assert list(contradicted({**honest, "liar": part(moved)})) == ["liar"]
    near = {
        label: [0.7 * x + 0.3 * y for x, y in zip(*pair, strict=True)]
        for label, pair in {0: (ZERO, ONE), 1: (ONE, TWO), 2: (TWO, ZERO)}.items()
    }
    assert contradicted({**honest, "near": part(near)}) == {}
