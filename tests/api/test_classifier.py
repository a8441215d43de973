"""Images in every form that a researcher has them in get the same answers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fl_app import Classifier, DataError, OptionError, Run, RunFolderError, open_classifier
from fl_app.classification.model import write_classifier
from tests.classification.models import CLASSES, make_classifier, make_images, write_folder

SITES = {"site-0": (20, 15, 0), "site-1": (5, 10, 0)}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    folder = tmp_path_factory.mktemp("model")
    write_classifier(make_classifier(SITES, "lda"), folder)
    return open_classifier(folder)


def as_pictures(images: torch.Tensor) -> list[Image.Image]:
    return [Image.fromarray(image[0].numpy()) for image in images]


def test_files_pictures_and_arrays_get_the_same_answers(classifier: Classifier, tmp_path: Path) -> None:
    images = make_images((2, 3, 0), 7)
    folder = write_folder(tmp_path, images)
    files = [folder / CLASSES[label] / f"{n}.png" for n, label in enumerate(images.labels.tolist())]
    arrays = images.images.numpy()
    found = [
        classifier.predict(one)
        for one in (
            files,
            as_pictures(images.images),
            images.images,
            arrays,
            arrays[:, 0],
            list(map(str, files)),
        )
    ]
    for answers in found:
        np.testing.assert_allclose(answers.probabilities, found[0].probabilities, atol=1e-9)  # memory layouts differ
        assert answers.predicted == ["dark", "dark", "bright", "bright", "bright"]
    assert found[0].names == tuple(map(str, files)) and found[1].names == ("0", "1", "2", "3", "4")


def test_one_file_a_folder_and_one_picture_need_no_list(classifier: Classifier, tmp_path: Path) -> None:
    images = make_images((1, 1, 0), 7)
    folder = write_folder(tmp_path, images)
    assert classifier.predict(folder).predicted == ["bright", "dark"]  # in the order of the files' names
    assert classifier.predict(str(folder / "dark" / "0.png")).predicted == ["dark"]
    assert classifier.predict(as_pictures(images.images)[0]).predicted == ["dark"]


def test_a_frame_is_a_row_for_each_image(classifier: Classifier) -> None:
    answers = classifier.predict(make_images((2, 1, 0), 7).images)
    frame = answers.frame()
    assert list(frame.columns) == [
        *("file", "predicted", "probability", "distance", "abstain"),
        *("p(dark)", "p(bright)", "p(striped)"),
    ]
    assert list(frame["predicted"]) == ["dark", "dark", "bright"]
    assert list(frame["probability"]) == list(answers.probabilities.max(axis=1))


def test_a_head_is_chosen_by_name_and_the_one_that_ships_is_first(classifier: Classifier) -> None:
    images = make_images((3, 3, 0), 7).images
    assert classifier.heads[0] == "lda"
    shipped, named = classifier.predict(images), classifier.predict(images, "lda")
    np.testing.assert_array_equal(shipped.probabilities, named.probabilities)
    assert not np.array_equal(classifier.predict(images, "cosine").probabilities, shipped.probabilities)
    with pytest.raises(OptionError, match="There is no head 'magic'"):
        classifier.predict(images, "magic")


def test_images_are_only_converted_if_that_is_wished(classifier: Classifier) -> None:
    large = Image.new("RGB", (16, 12), (20, 20, 20))
    with pytest.raises(DataError, match="Image 0 is RGB, the model takes grey images"):
        classifier.predict(large)
    assert classifier.predict([large], convert=True).predicted == ["dark"]
    with pytest.raises(DataError, match="Images must be uint8"):
        classifier.predict(np.zeros((1, 1, 9, 9), np.uint8))
    assert classifier.predict(np.zeros((1, 1, 9, 9), np.uint8), convert=True).predicted == ["dark"]


def test_a_picture_of_sixteen_bits_is_read_as_its_file_would_be(classifier: Classifier, tmp_path: Path) -> None:
    picture = Image.fromarray(np.full((8, 8), 210 * 257, np.uint16))
    picture.save(tmp_path / "deep.png")
    in_memory, in_file = classifier.predict(picture), classifier.predict(tmp_path / "deep.png")
    np.testing.assert_allclose(in_memory.probabilities, in_file.probabilities, atol=1e-9)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([], "There is no image to classify"),
        (np.zeros((0, 1, 8, 8), np.uint8), "There is no image to classify"),
        (np.zeros((1, 1, 8, 8)), "Images must be uint8"),
        ([3], "paths, PIL images or uint8 arrays, got int"),
        (Image.new("F", (8, 8)), "its values are of kind F"),
    ],
)
def test_what_is_no_image_is_one_clear_error(classifier: Classifier, images: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        classifier.predict(images)  # type: ignore[arg-type]


def test_a_path_that_does_not_exist_is_wrong_input(classifier: Classifier) -> None:
    with pytest.raises(OptionError, match=r"nowhere\.png: no such file or folder"):
        classifier.predict("nowhere.png")


def test_a_broken_file_is_an_error_unless_it_may_be_left_out(classifier: Classifier, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, make_images((1, 0, 0), 7))
    (folder / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.png cannot be read"):
        classifier.predict(folder)
    answers = classifier.predict(folder, skip_unreadable=True)
    assert answers.predicted == ["dark"]
    assert len(answers.problems) == 1 and "broken.png" in answers.problems[0]


def test_a_run_predicts_what_its_classifier_does(run: Run) -> None:
    images = run.sample(n=1)
    answers, own = run.predict(images, "linear"), run.classifier().predict(images, "linear")
    np.testing.assert_array_equal(answers.probabilities, own.probabilities)
    assert own.probabilities.shape == (10, 10)


def test_a_classifier_is_opened_by_the_name_of_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "fl-app" / "runs" / "study-1" / "classification" / "model"
    model.mkdir(parents=True)
    write_classifier(make_classifier(SITES), model)
    assert open_classifier("study-1").folder == model
    with pytest.raises(RunFolderError, match="study-2: no such folder"):
        open_classifier("study-2")
