"""What a classifier says of images."""

import dataclasses

import numpy as np
import pytest
import torch

from fl_app.classification.heads import HEADS, distance_map
from fl_app.classification.model import ClassifierModel
from fl_app.classification.moments import picture_distances, picture_map
from fl_app.classification.prediction import classify
from fl_app.errors import DataError, FlAppError, OptionError
from tests.classification.models import CPU, make_classifier, make_images

SITES = {"site-0": (20, 15, 0), "site-1": (5, 10, 0)}


@pytest.fixture
def classifier() -> ClassifierModel:
    return make_classifier(SITES)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("number", [0, 1, 257])
def test_every_image_gets_a_class_and_probabilities_that_add_up_to_1(
    classifier: ClassifierModel, head: str, number: int
) -> None:
    found = classify(classifier, make_images((number, 0, 0), 5).images, head, CPU)
    assert (found.labels.shape, found.probabilities.shape) == ((number,), (number, 3))
    assert np.allclose(found.probabilities.sum(axis=1), 1.0)
    assert np.array_equal(found.labels, found.probabilities.argmax(axis=1))


@pytest.mark.parametrize("head", HEADS)
def test_a_class_that_nobody_held_has_probability_0(classifier: ClassifierModel, head: str) -> None:
    found = classify(classifier, make_images((3, 3, 3), 5).images, head, CPU)
    assert (found.probabilities[:, 2] == 0).all()


@pytest.mark.parametrize("head", ["nearest-mean", "cosine", "lda", "fedcof"])
def test_prototypes_of_an_untrained_network_tell_easy_images_apart(classifier: ClassifierModel, head: str) -> None:
    images = make_images((20, 20, 0), 5)
    assert classify(classifier, images.images, head, CPU).labels.tolist() == images.labels.tolist()


def test_an_image_gets_the_same_answer_alone_and_among_others(classifier: ClassifierModel) -> None:
    images = make_images((3, 3, 0), 5).images
    together = classify(classifier, images, "lda", CPU)
    alone = [classify(classifier, image[None], "lda", CPU) for image in images]
    assert together.labels.tolist() == [int(one.labels[0]) for one in alone]
    assert np.allclose(together.distances, [one.distances[0] for one in alone], rtol=1e-4)


def test_without_a_name_the_head_that_ships_answers() -> None:
    shipped = make_classifier(SITES, shipped="cosine")
    images = make_images((4, 4, 0), 5).images
    default, named = classify(shipped, images, None, CPU), classify(shipped, images, "cosine", CPU)
    assert np.array_equal(default.probabilities, named.probabilities)


def test_a_temperature_makes_probabilities_timid_and_changes_no_answer(classifier: ClassifierModel) -> None:
    images = make_images((4, 4, 0), 5).images
    timid = dataclasses.replace(classifier, temperatures={classifier.shipped: 50.0})
    plain, tempered = (classify(one, images, None, CPU) for one in (classifier, timid))
    assert np.array_equal(plain.labels, tempered.labels)
    assert (tempered.probabilities.max(axis=1) < plain.probabilities.max(axis=1)).all()


def test_distances_are_euclidean_and_to_the_nearest_prototype(classifier: ClassifierModel) -> None:
    images = make_images((2, 2, 2), 5).images
    with torch.no_grad():
        features = classifier.build_network().embed(images.float() / 127.5 - 1.0).double().numpy()
    lengths = np.linalg.norm(features[:, None] - classifier.prototypes[None, :2], axis=2).min(axis=1)
    assert np.allclose(classify(classifier, images, None, CPU).distances, lengths, atol=1e-5)


def test_distances_are_those_of_the_classifiers_rule(classifier: ClassifierModel) -> None:
    images = make_images((2, 2, 2), 5).images
    features = classifier.build_network().embed(images.float() / 127.5 - 1.0).detach().double().numpy()
    by_covariance = dataclasses.replace(classifier, abstain_by="mahalanobis")
    mapped_by = distance_map(classifier.pooled, classifier.shrinkage, "mahalanobis")
    assert mapped_by is not None
    points = classifier.prototypes[:2] @ mapped_by
    expected = np.linalg.norm((features @ mapped_by)[:, None] - points, axis=2).min(axis=1)
    assert np.allclose(classify(by_covariance, images, None, CPU).distances, expected, rtol=1e-4)
    assert not np.allclose(classify(classifier, images, None, CPU).distances, expected, rtol=0.1)


def test_an_image_far_from_every_prototype_gets_no_answer(classifier: ClassifierModel) -> None:
    images = make_images((2, 2, 2), 5).images
    distances = classify(classifier, images, None, CPU).distances
    limit = float(np.sort(distances)[3])
    strict = make_classifier(SITES, abstain_distance=limit)
    assert classify(strict, images, None, CPU).abstain.tolist() == (distances > limit).tolist()
    assert sum(distances > limit) == 2
    assert not classify(classifier, images, None, CPU).abstain.any()  # no limit


def test_an_image_gets_no_answer_if_either_distance_is_too_large(classifier: ClassifierModel) -> None:
    images = make_images((2, 2, 2), 5).images
    distances = classify(classifier, images, None, CPU).distances
    strange = picture_distances(picture_map(classifier.pooled["picture"]), images)
    far, odd = float(np.sort(distances)[4]), float(np.sort(strange)[3])
    limited = dataclasses.replace(classifier, abstain_distance=far, abstain_picture_distance=odd)
    found = classify(limited, images, None, CPU)
    expected = (distances > far) | (strange > odd)
    assert found.abstain.tolist() == expected.tolist() and 2 <= expected.sum() < 6
    assert np.array_equal(found.distances, distances)


def test_without_any_prototype_the_linear_head_still_answers_at_an_infinite_distance() -> None:
    classifier = make_classifier({"site-0": (2, 3, 0)}, min_class_count=5)
    assert classifier.heads.keys() == {"linear"}
    found = classify(classifier, make_images((1, 1, 0), 5).images, None, CPU)
    assert np.isinf(found.distances).all()
    assert not found.abstain.any()


def test_an_unknown_head_is_refused(classifier: ClassifierModel) -> None:
    with pytest.raises(OptionError, match="no head 'svm'"):
        classify(classifier, make_images((1, 0, 0), 5).images, "svm", CPU)


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 1, 9, 8), (1, 8, 8)])
def test_images_of_another_shape_are_refused(classifier: ClassifierModel, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="Images must be uint8"):
        classify(classifier, torch.zeros(shape, dtype=torch.uint8), None, CPU)


def test_an_answer_that_is_not_finite_is_an_error_and_no_class(classifier: ClassifierModel) -> None:
    broken = {name: value.clone() for name, value in classifier.weights.items()}
    next(iter(broken.values()))[0] = torch.nan
    with pytest.raises(FlAppError, match="is not finite"):
        classify(
            ClassifierModel(**{**vars(classifier), "weights": broken}), make_images((1, 0, 0), 5).images, None, CPU
        )
