"""Lies of one site of three in every field of its answer about generated images: rejected, named, or harmless."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fl_app.errors import RejectedReply
from fl_app.messages.quality import QUALITY
from fl_app.messages.records import read_sums, write_sums
from fl_app.metrics.generation import feature_sums
from fl_app.quality.figure import NEIGHBOURS, Figure
from fl_app.quality.figures import quality_figures
from fl_app.quality.judging import check_quality
from fl_app.quality.measuring import blank_quality
from fl_app.strategies.admission import check_sums
from tests.lies.messages import Lie, lies_in
from tests.quality.sites import CLASSES, D, K, make_images, plain, sums_of
from tests.quality.sites import NEIGHBOURS as NUM_NEIGHBOURS

COUNTS = (40, 40, 40)
LIAR = "liar"
HONEST = {f"honest-{number}": sums_of(number, COUNTS) for number in range(2)}
TRUTH = sums_of(7, COUNTS)
MOST_SHARE = 0.2


def figures(parts: dict[str, Any]) -> dict[str, Figure]:
    images = make_images(77)
    generated = feature_sums(plain(images), images.labels.numpy(), K + 1)
    found = quality_figures("pixels", CLASSES, parts, generated, NUM_NEIGHBOURS)
    return {one.name: one for one in found if one.class_name is None}


def lies() -> Iterator[Lie]:
    yield from lies_in(QUALITY, write_sums(LIAR, TRUTH), lambda field: field.startswith("statistics/"))


def is_near(one: Figure, other: Figure) -> bool:
    """Tell whether a figure is one of honest sites, within its noise."""
    if one.value is None or other.value is None:
        return one.value is other.value
    if one.name in NEIGHBOURS:
        return abs(one.value - other.value) <= MOST_SHARE
    noise = 2.0 * max(other.error or 0.0, abs(other.floor or 0.0))
    return abs(one.value - other.value) <= max(min(abs(one.value), abs(other.value)), noise)


def test_each_lie_is_rejected_or_named_or_harmless() -> None:
    honest, absent = figures({**HONEST, LIAR: TRUTH}), figures(HONEST)
    blank = blank_quality(D, K)
    verdicts: dict[str, list[str]] = {"rejected": [], "named": [], "harmless": [], "passed": []}
    for lie in lies():
        try:
            sums = read_sums(lie.make(), blank)
            check_sums(sums, blank)
            check_quality(sums, COUNTS, COUNTS, sum(COUNTS), NUM_NEIGHBOURS)
        except RejectedReply:
            verdicts["rejected"].append(lie.id)
            continue
        for name, one in figures({**HONEST, LIAR: sums}).items():
            if is_near(one, honest[name]) or is_near(one, absent[name]):
                verdicts["harmless"].append(lie.id)
            else:
                verdicts["named" if one.rests_on == LIAR else "passed"].append(f"{lie.id}: {name} {one}")
    assert not verdicts["passed"], "\n".join(verdicts["passed"])
    assert len(verdicts["rejected"]) > 100 and verdicts["named"]


def test_a_site_like_the_others_is_not_named() -> None:
    assert {one.rests_on for one in figures({**HONEST, LIAR: TRUTH}).values()} == {None}


@pytest.mark.parametrize("factor", [20.0, 100.0])
def test_second_moments_that_are_too_large_name_their_site(factor: float) -> None:
    false = {**TRUTH, "moments/outer": np.asarray(TRUTH["moments/outer"] * factor)}
    assert figures({**HONEST, LIAR: false})["frechet-distance"].rests_on == LIAR
