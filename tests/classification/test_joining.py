"""A new site's sums join a finished model."""

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest
import torch

from fl_app.classification.joining import add_site
from fl_app.classification.model import ClassifierModel, fingerprint
from fl_app.classification.moments import measure_moments
from fl_app.classification.prediction import classify
from fl_app.errors import DataError, OptionError
from tests.classification.models import CPU, make_classifier, make_images, make_network

PRIORS = ("equal", "training")
Sums = dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]


def sums(counts: tuple[int, int, int], seed: int, min_class_count: int = 1) -> Sums:
    return measure_moments(make_network(), make_images(counts, seed), CPU, min_class_count)


@pytest.fixture
def classifier() -> ClassifierModel:
    return make_classifier({"site-0": (20, 15, 0), "site-1": (5, 10, 0)})


def test_adding_a_site_equals_a_run_that_had_it_from_the_start(classifier: ClassifierModel) -> None:
    later = add_site(classifier, "site-2", sums((4, 0, 9), 2))
    from_the_start = make_classifier({"site-0": (20, 15, 0), "site-1": (5, 10, 0), "site-2": (4, 0, 9)})
    for key, value in from_the_start.pooled.items():
        assert np.allclose(later.pooled[key], value, rtol=1e-12)
    for name in ("nearest-mean", "cosine", "lda", "fedcof"):
        assert np.allclose(later.heads[name].weight, from_the_start.heads[name].weight, rtol=1e-6)


def test_a_joining_site_leaves_the_prior_as_it_is(classifier: ClassifierModel) -> None:
    equal, training = (
        add_site(dataclasses.replace(classifier, prior=prior), "site-2", sums((40, 0, 9), 2)) for prior in PRIORS
    )
    assert (equal.prior, training.prior) == PRIORS
    shift = training.heads["lda"].bias - equal.heads["lda"].bias
    count = training.pooled["count"]
    assert np.allclose(shift, np.log(count / count.sum()))


def test_sums_of_an_older_version_join_without_pictures(classifier: ClassifierModel) -> None:
    found = sums((4, 0, 9), 2)
    del found["picture"]
    later = add_site(classifier, "site-2", found)
    assert later.pooled["count"].sum() == 63
    assert np.array_equal(later.pooled["picture"], classifier.pooled["picture"])


def test_a_joining_sites_pictures_are_strange_no_longer() -> None:
    strict = dataclasses.replace(make_classifier({"site-0": (20, 0, 0)}), abstain_picture_distance=6.0)
    bright = make_images((0, 20, 0), 9).images
    assert classify(strict, bright, None, CPU).abstain.all()
    later = add_site(strict, "site-1", sums((0, 20, 0), 2))
    assert not classify(later, bright, None, CPU).abstain.any()


def test_the_order_in_which_sites_join_does_not_matter(classifier: ClassifierModel) -> None:
    first, second = sums((4, 0, 9), 2), sums((0, 3, 3), 3)
    one = add_site(add_site(classifier, "a", first), "b", second)
    other = add_site(add_site(classifier, "b", second), "a", first)
    assert all(np.allclose(one.pooled[key], other.pooled[key], rtol=1e-12) for key in one.pooled)


def test_the_network_and_its_own_layer_stay_as_they_are(classifier: ClassifierModel) -> None:
    later = add_site(classifier, "site-2", sums((4, 0, 9), 2))
    assert fingerprint(later.weights) == fingerprint(classifier.weights)
    assert later.heads["linear"] is classifier.heads["linear"]


def test_a_class_that_the_new_site_alone_holds_becomes_predictable(classifier: ClassifierModel) -> None:
    striped = make_images((0, 0, 20), 9).images
    assert 2 not in classify(classifier, striped, None, CPU).labels
    later = add_site(classifier, "site-2", sums((0, 0, 12), 2))
    assert later.known.all()
    assert (classify(later, striped, None, CPU).labels == 2).mean() > 0.9
    easy = make_images((10, 10, 0), 9)
    assert (classify(later, easy.images, None, CPU).labels == easy.labels.numpy()).mean() > 0.9


def test_a_new_class_replaces_the_linear_head_and_the_record_says_why(classifier: ClassifierModel) -> None:
    later = add_site(classifier, "site-2", sums((0, 0, 12), 2))
    assert (classifier.shipped, later.shipped) == ("linear", "lda")
    assert later.record["added"] == [
        {
            "site": "site-2",
            "sums-sha256": later.record["added"][0]["sums-sha256"],
            "images": {"striped": 12},
            "withheld": [],
            "new-classes": ["striped"],
            "shipped": "lda",
            "why": "linear cannot name striped, of which no site of the run held an image",
        }
    ]
    assert later.record["contributed"] == ["site-0", "site-1"]


def test_where_lda_is_not_defined_the_nearest_mean_takes_the_place() -> None:
    bare = make_classifier({"site-0": (1, 0, 0)})
    assert "lda" not in bare.heads
    assert add_site(bare, "site-1", sums((0, 1, 0), 2)).shipped == "nearest-mean"


def test_without_a_new_class_the_head_that_ships_stays(classifier: ClassifierModel) -> None:
    later = add_site(classifier, "site-2", sums((4, 4, 0), 2))
    assert later.shipped == "linear"
    assert later.record["added"][0]["why"] == "as before"


def test_a_prototype_head_that_ships_stays_with_a_new_class() -> None:
    shipped = make_classifier({"site-0": (20, 15, 0), "site-1": (5, 10, 0)}, shipped="cosine")
    assert add_site(shipped, "site-2", sums((0, 0, 5), 2)).shipped == "cosine"


def test_a_withheld_class_is_named_and_stays_unknown(classifier: ClassifierModel) -> None:
    later = add_site(classifier, "site-2", sums((9, 0, 2), 2, min_class_count=5))
    assert later.record["added"][0]["withheld"] == ["striped"]
    assert later.known.tolist() == [True, True, False]


@pytest.mark.parametrize("site", ["site-0", "site-1", "site-9"])
def test_a_site_counts_once(classifier: ClassifierModel, site: str) -> None:
    with_another = add_site(classifier, "site-9", sums((4, 0, 0), 2))
    with pytest.raises(OptionError, match=f"Site '{site}' is in this model already"):
        add_site(with_another, site, sums((4, 0, 0), 2))


def without_names(classifier: ClassifierModel) -> ClassifierModel:
    return dataclasses.replace(classifier, record={"num-sites": 2})


def test_a_model_that_names_no_site_does_not_name_the_one_that_joins(classifier: ClassifierModel) -> None:
    later = add_site(without_names(classifier), "site-9", sums((4, 0, 0), 2))
    assert later.sites == [] and "site-9" not in json.dumps(later.record)
    assert later.record["added"][0]["images"] == {"dark": 4}


def test_without_names_the_same_sums_still_count_once_and_so_do_sites_that_the_run_folder_knows(
    classifier: ClassifierModel,
) -> None:
    later = add_site(without_names(classifier), "site-9", sums((4, 0, 0), 2))
    with pytest.raises(OptionError, match="These very sums are in this model already"):
        add_site(later, "another", sums((4, 0, 0), 2))
    with pytest.raises(OptionError, match="Site 'site-9' is in this model already"):
        add_site(later, "site-9", sums((5, 0, 0), 3), ["site-9"])


@pytest.mark.parametrize(
    ("key", "shape"), [("count", (4,)), ("sum", (3, 5)), ("outer", (5, 5)), ("withheld", (2,)), ("picture", (3, 3))]
)
def test_sums_of_another_model_are_refused(classifier: ClassifierModel, key: str, shape: tuple[int, ...]) -> None:
    found = {**sums((4, 4, 0), 2), key: np.zeros(shape)}
    with pytest.raises(OptionError, match=r"do not fit the model: .*3 classes and 6 features"):
        add_site(classifier, "site-2", found)


@pytest.mark.parametrize("key", ["count", "sum", "outer", "withheld"])
@pytest.mark.parametrize(("value", "words"), [(np.nan, "not finite"), (np.inf, "not finite"), (-1.0, "negative")])
def test_numbers_that_no_image_leads_to_are_refused(
    classifier: ClassifierModel, key: str, value: float, words: str
) -> None:
    found = sums((4, 4, 0), 2)
    found[key].flat[0] = value
    with pytest.raises(DataError, match=f"'{key}' hold a .*{words}"):
        add_site(classifier, "site-2", found)


def _without_outer(found: Sums) -> None:
    del found["outer"]


def _half_an_image(found: Sums) -> None:
    found["count"][0] += 0.5


def _sum_of_nothing(found: Sums) -> None:
    found["sum"][2] = 1.0


def _withheld_and_sent(found: Sums) -> None:
    found["withheld"][0] = 1.0


def _squares_too_small(found: Sums) -> None:
    found["outer"] *= 0.5


def _other_pictures(found: Sums) -> None:
    found["picture"] *= 2.0


def _rough_beyond_measure(found: Sums) -> None:
    found["picture"][3, 3] += 1e6


def _no_image(found: Sums) -> None:
    for value in found.values():
        value[:] = 0.0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_without_outer, "The sums must be count, sum, outer, withheld, picture; found count, picture, sum, withheld"),
        (_half_an_image, "whole numbers"),
        (_withheld_and_sent, "none of a withheld class"),
        (_sum_of_nothing, "without images must be 0"),
        (_squares_too_small, "squares are smaller"),
        (_other_pictures, "'picture' are not those of as many images"),
        (_rough_beyond_measure, "'picture' are not those"),
        (_no_image, "nothing to add"),
    ],
)
def test_sums_that_contradict_each_other_are_refused(
    classifier: ClassifierModel, spoil: Callable[[Sums], None], words: str
) -> None:
    found = sums((4, 4, 0), 2)
    spoil(found)
    with pytest.raises(DataError, match=words):
        add_site(classifier, "site-2", found)


@pytest.mark.parametrize("number", [1, 2, 300])
def test_true_sums_of_equal_images_are_accepted(classifier: ClassifierModel, number: int) -> None:
    """Then the sum of squares equals that of the means, to rounding."""
    one = make_images((1, 0, 0), 2)
    found = measure_moments(make_network(), one.select(torch.zeros(number, dtype=torch.int64)), CPU, 1)
    assert add_site(classifier, "site-2", found).pooled["count"][0] == 25 + number
