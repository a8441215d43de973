"""Figures of generated images: values that follow from the sites' sums, or the reason why there is none."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fl_app.metrics.generation import feature_sums
from fl_app.quality.figure import CLASSIFIED, FRECHET, KERNEL, NEIGHBOURS, TRAINED_ON, WORDING, Figure, is_share
from fl_app.quality.figures import label_figure, quality_figures, usefulness_figures
from tests.quality.sites import CLASSES, K, make_images, plain, sums_of
from tests.quality.sites import NEIGHBOURS as NUM_NEIGHBOURS


def figures(*counts: tuple[int, ...]) -> dict[tuple[str, str | None], Figure]:
    parts = {f"site-{number}": sums_of(number, count) for number, count in enumerate(counts)}
    images = make_images(77)
    generated = feature_sums(plain(images), images.labels.numpy(), K + 1)
    found = quality_figures("pixels", CLASSES, parts, generated, NUM_NEIGHBOURS)
    return {(one.name, one.class_name): one for one in found}


def test_every_figure_says_how_many_images_and_sites_it_is_of_and_has_a_floor() -> None:
    found = figures((40, 40, 40), (20, 20, 20))
    whole = [found[name, None] for name in (FRECHET, KERNEL, *NEIGHBOURS)]
    assert [(one.num_real, one.num_generated, one.num_sites) for one in whole] == [(180, 120, 2)] * 6
    assert all(one.value is not None and one.floor is not None and one.reason is None for one in whole)
    of_class = found[FRECHET, "b"]
    assert (of_class.num_real, of_class.num_generated) == (60, 40) and of_class.value is not None


def test_images_of_the_same_kind_are_as_good_as_the_floor_and_others_are_worse() -> None:
    found = figures((200, 200, 200))
    value, floor = found[FRECHET, None].value, found[FRECHET, None].floor
    assert value is not None and floor is not None and floor < value < 3 * floor  # it has fewer images
    other = make_images(78, spread=1.0)  # no variance within a class
    parts = {"site": sums_of(0, (200, 200, 200))}
    narrow = feature_sums(plain(other), other.labels.numpy(), K + 1)
    worse = next(quality_figures("pixels", CLASSES, parts, narrow, NUM_NEIGHBOURS))
    assert worse.value is not None and worse.value > 3 * value


def test_a_class_with_very_few_images_has_no_distance_of_its_own_in_a_simulation_either() -> None:
    found = figures((40, 40, 10), (20, 20, 9))
    assert found[FRECHET, "b"].value is not None and found[FRECHET, None].value is not None
    few = found[FRECHET, "c"]
    assert (few.value, few.num_real) == (
        None,
        19,
    ) and few.reason == "fewer than 20 real or generated images of this class"


@pytest.mark.parametrize("counts", [(0, 0, 0), (1, 0, 0)])
def test_what_too_few_images_cannot_tell_has_a_reason_in_place_of_a_value(counts: tuple[int, ...]) -> None:
    for one in figures(counts).values():
        assert one.value is None and one.reason


def test_if_no_site_answers_each_figure_says_so() -> None:
    found = list(quality_figures("pixels", CLASSES, {}, {}, NUM_NEIGHBOURS))
    assert len(found) == 6 and {one.reason for one in found} == {"no site measured it"}


def test_the_label_accuracy_is_the_share_of_images_that_the_classifier_takes_for_their_class() -> None:
    found = label_figure(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]))
    assert found.value == 0.75 and found.num_generated == 4
    assert found.interval is not None and found.interval[0] < 0.75 < found.interval[1]
    assert label_figure(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)).reason == "no image was generated"
    beside = label_figure(np.array([0]), np.array([0]), 0.9, 359)
    assert (beside.floor, beside.num_real) == (0.9, 359)  # what the same classifier reaches on real images
    assert beside.measured_on == (1, "generated images")


def test_every_figure_has_a_name_for_people_and_is_a_share_or_a_distance() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    found = [*figures((40, 40, 40)).values(), label_figure(nothing, nothing), *usefulness_figures({}, 0)]
    assert {one.name for one in found} == WORDING.keys() - {*CLASSIFIED, "home-accuracy"}
    assert {one.name for one in found if not is_share(one.name)} == {FRECHET, KERNEL}
    assert not is_share("seconds-a-round") and Figure("x", "", None, None).wording == "x"


def test_the_usefulness_adds_right_answers_over_the_sites_that_have_any() -> None:
    nothing = np.zeros((2, K))
    parts = {
        "north": {"synthetic": np.array([[1.0, 2, 0], [2, 2, 0]]), "real": nothing, "both": nothing},
        "south": {"synthetic": np.array([[1.0, 0, 0], [4, 0, 0]]), "real": np.ones((2, K)), "both": nothing},
    }
    found = {one.name: one for one in usefulness_figures(parts, 50)}
    assert (found["trained-on-synthetic"].value, found["trained-on-synthetic"].num_real) == (0.5, 8)
    assert (found["trained-on-real"].num_sites, found["trained-on-real"].num_generated) == (1, 0)
    assert found["trained-on-both"].value is None and found["trained-on-both"].reason


def test_a_class_of_which_no_site_answers_counts_no_more_among_generated_images() -> None:
    full, lacking = figures((60, 60, 60))[FRECHET, None], figures((60, 60, 0))[FRECHET, None]
    assert full.value is not None and lacking.value is not None
    assert lacking.value < 2 * full.value  # and not the distance between two classes and three


def test_an_accuracy_that_one_site_moves_far_names_this_site() -> None:
    def site(right: float) -> dict[str, NDArray[np.float64]]:
        return {one: np.array([[right], [100.0]]) for one in TRAINED_ON}

    honest = {name: site(75.0) for name in ("north", "south", "west", "east")}
    for lie, named in ((0.0, "liar"), (75.0, None), (90.0, None)):
        found = list(usefulness_figures({**honest, "liar": site(lie)}, 50))
        assert [one.rests_on for one in found] == [named] * 3
    assert next(usefulness_figures({"north": site(75.0), "liar": site(0.0)}, 50)).rests_on is None  # which of the two?
