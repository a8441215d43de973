"""Which sums about generated images a site may send."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_app.errors import RejectedReply
from fl_app.quality.judging import check_quality, check_usefulness
from tests.quality.sites import NEIGHBOURS, Array, sums_of

COUNTS = (40, 30, 20)
NUM_GENERATED = 120

Sums = dict[str, Array]


def check(sums: Sums, counts: tuple[int, ...] | None = COUNTS) -> None:
    check_quality(sums, counts, counts, NUM_GENERATED, NEIGHBOURS, 1.0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.tuples(*[st.integers(0, 40)] * 3), st.sampled_from([0, 2]))
def test_an_honest_site_is_never_rejected(seed: int, counts: tuple[int, int, int], per_feature: int) -> None:
    sums = sums_of(seed, counts, per_feature)
    check(sums, counts)
    check(sums, None)


def changed(key: str, change: Callable[[Array], Array]) -> Callable[[Sums], Sums]:
    return lambda sums: {**sums, key: change(sums[key].copy())}


def at(position: int, value: float) -> Callable[[Array], Array]:
    def change(array: Array) -> Array:
        array[position] = value
        return array

    return change


LIES: dict[str, Callable[[Sums], Sums]] = {
    "more images than it holds": changed("moments/count", lambda count: count * 2),
    "half an image": changed("moments/count", lambda count: count - 0.5),
    "another class's images": changed("moments/count", lambda count: np.roll(count, 1)),
    "second moments too small": changed("moments/outer", lambda outer: outer * 0.1),
    "second moments of no image": changed("moments/outer", lambda outer: outer - outer.mean()),
    "sums of no image": changed("floor-moments/count", np.zeros_like),
    "brighter than white": changed("moments/sum", lambda total: total + 100.0),
    "second moments of no pixels": changed("floor-moments/outer", lambda outer: outer + 1000.0),
    "neighbours of too many": changed("generated/neighbours", at(4, 1e6)),
    "more inside than there are": changed("generated/neighbours", at(0, NUM_GENERATED + 1.0)),
    "more covered than there are": changed("generated/neighbours", at(3, sum(COUNTS) + 1.0)),
    "more generated than were sent": changed("generated/neighbours", at(5, NUM_GENERATED + 1.0)),
    "negative pairs": changed("floor/neighbours", at(2, -1.0)),
    "pairs of too many": changed("generated/kernel-num-real", lambda number: number + 1),
    "a negative variance": changed("generated/kernel-variance", lambda variance: variance * 0 - 1),
}


@pytest.mark.parametrize("lie", LIES)
def test_sums_that_no_images_lead_to_are_rejected(lie: str) -> None:
    honest = sums_of(0, COUNTS)
    check(honest)
    with pytest.raises(RejectedReply):
        check(LIES[lie](honest))


@pytest.mark.parametrize(
    "lie",
    [
        lambda right, total: (total + 1, total),
        lambda right, total: (right, total * 2),
        lambda right, total: (right - 0.5, total),
        lambda right, total: (-right, total),
    ],
)
def test_more_right_answers_than_test_images_are_rejected(lie: Callable[[Array, Array], tuple[Array, Array]]) -> None:
    total = np.array(COUNTS, dtype=np.float64)
    honest = {"synthetic": np.stack([total / 2, total]), "real": np.zeros((2, 3))}
    check_usefulness(honest, COUNTS)
    with pytest.raises(RejectedReply):
        check_usefulness({**honest, "synthetic": np.stack(lie(total / 2, total))}, COUNTS)
