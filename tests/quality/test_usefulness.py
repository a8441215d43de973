"""Train on generated images, test on real ones."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fl_app.classification.network import Classifier
from fl_app.classification.task import ClassificationTask
from fl_app.data.images import Batch, DatasetInfo, ImageSet, no_images
from fl_app.errors import FlAppError
from fl_app.optimizers import set_step_size
from fl_app.options.sections import OptionValue
from fl_app.options.training import TrainingOptions
from fl_app.quality import usefulness as module
from fl_app.quality.figure import TRAINED_ON
from fl_app.quality.usefulness import usefulness
from fl_app.sums import add
from tests.options import run_config

CPU = torch.device("cpu")
NAMES = ("dark", "grey", "bright")
INFO = DatasetInfo(NAMES, 1, 8)


def task(**changes: OptionValue) -> ClassificationTask:
    names = {f"classification.{key.replace('_', '-')}": value for key, value in changes.items()}
    config = run_config({"tasks": "classification", "classification.embedding-size": 8, **names})
    return ClassificationTask.of_run(config.pass_named("classification"), config, INFO)


def images(count: int, seed: int = 0, shift: int = 0, label: int | None = None) -> ImageSet:
    """Noise whose brightness tells the class; `shift` mislabels every image."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3 if label is None else torch.full((count,), label)
    noise = torch.randint(0, 40, (count, 1, 8, 8), generator=generator)
    pixels = (100 * labels.view(-1, 1, 1, 1) + noise).to(torch.uint8)
    return ImageSet(pixels, (labels + shift) % 3, NAMES)


def measured(
    real: ImageSet, generated: ImageSet, test: ImageSet, steps: int = 60, seed: int = 0, **changes: OptionValue
) -> dict[str, NDArray[np.float64]]:
    return usefulness(task(**changes), real, generated, test, device=CPU, seed=seed, site="north", num_steps=steps)


def accuracy(counts: NDArray[np.float64]) -> float:
    return float(counts[0].sum() / counts[1].sum())


def test_images_of_the_right_classes_are_useful_and_mislabelled_ones_are_not() -> None:
    real, test = images(60), images(30, 1)
    good, bad = measured(real, images(60, 2), test), measured(real, images(60, 2, shift=1), test)
    assert accuracy(good["synthetic"]) == 1.0 and accuracy(bad["synthetic"]) == 0.0
    assert accuracy(good["real"]) == accuracy(bad["real"]) == accuracy(good["both"]) == 1.0


def test_answers_and_test_images_are_counted_by_class() -> None:
    some, bright = images(9), images(4, 1, label=2)
    test = ImageSet(torch.cat([some.images, bright.images]), torch.cat([some.labels, bright.labels]), NAMES)
    found = measured(images(30, 3), images(30, 4), test)
    for name in TRAINED_ON:
        assert found[name].tolist() == [[3.0, 3.0, 7.0], [3.0, 3.0, 7.0]]


def test_the_same_seed_gives_the_same_answers_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    found = [measured(images(30), images(20, 1), images(60, 2), steps=3, augment="flip,shift") for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before)
    for name in TRAINED_ON:
        np.testing.assert_array_equal(found[0][name], found[1][name])


def test_variants_with_the_same_images_give_the_same_answers() -> None:
    same = images(30)
    found = measured(same, same, images(90, 1), steps=4)  # same weights, order and step sizes
    np.testing.assert_array_equal(found["synthetic"], found["real"])
    assert 0.0 < accuracy(found["real"]) < 1.0  # so that a difference would show


@pytest.mark.parametrize(("num_real", "expected"), [(50, 12), (7, 7)])
def test_as_many_real_images_are_taken_as_there_are_generated_ones_if_there_are_that_many(
    num_real: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(module, "_train", lambda network, task, images, *rest: seen.append(len(images)))
    measured(images(num_real), images(12, 1), images(3, 2))
    assert seen == [12, expected, 12 + expected]


def test_every_classifier_takes_the_same_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    draw = ClassificationTask.draw

    def counted(self: ClassificationTask, batch: Batch, generator: torch.Generator) -> Batch:
        sizes.append(len(batch))
        return draw(self, batch, generator)

    monkeypatch.setattr(ClassificationTask, "draw", counted)
    measured(images(5), images(40, 1), images(3, 2), steps=7, batch_size=16)
    assert sizes == [16, 16, 8, 16, 16, 8, 16, *[5] * 7, *[16, 16, 13], *[16, 16, 13], 16]


def test_without_real_images_only_the_generated_ones_are_measured() -> None:
    found = measured(no_images(INFO), images(30), images(9, 1))
    assert accuracy(found["synthetic"]) == 1.0
    assert not found["real"].any() and not found["both"].any()


def test_without_generated_images_nothing_is_measured() -> None:
    found = measured(images(30), no_images(INFO), images(9, 1))
    assert not any(value.any() for value in found.values())


def test_without_test_images_nothing_is_counted() -> None:
    found = measured(images(6), images(6), no_images(INFO), steps=1)
    assert {name: value.shape for name, value in found.items()} == dict.fromkeys(TRAINED_ON, (2, 3))
    assert not any(value.any() for value in found.values())


@pytest.mark.parametrize("count", [1, 33])
def test_one_image_one_more_than_a_batch_and_an_absent_class_work(count: int) -> None:
    found = measured(images(count, label=1), images(count, 1, label=1), images(6, 2), steps=40)
    for name in TRAINED_ON:
        assert found[name].tolist() == [[0.0, 2.0, 0.0], [2.0, 2.0, 2.0]]


def test_counts_of_sites_add_up() -> None:
    parts = [measured(images(30), images(30, 1), images(count, 2)) for count in (9, 12)]
    assert add(parts)["synthetic"][1].tolist() == [7.0, 7.0, 7.0]


def test_a_training_that_diverges_is_one_error() -> None:
    with pytest.raises(FlAppError, match="diverged"):
        measured(images(6), images(6), images(3), optimizer="sgd", learning_rate=1e30)


def test_step_sizes_follow_the_schedule_over_the_steps_and_answers_are_given_in_eval_mode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shares: list[float] = []
    built: list[Classifier] = []
    build_model = ClassificationTask.build_model

    def noted(optimizer: torch.optim.Optimizer, options: TrainingOptions, share_done: float) -> None:
        shares.append(share_done)
        set_step_size(optimizer, options, share_done)

    def kept(self: ClassificationTask) -> Classifier:
        built.append(build_model(self))
        return built[-1]

    monkeypatch.setattr(module, "set_step_size", noted)
    monkeypatch.setattr(ClassificationTask, "build_model", kept)
    measured(images(6), images(6), images(3), steps=4)
    assert shares == [0.0, 0.25, 0.5, 0.75] * 3
    assert [network.training for network in built] == [False] * 3
