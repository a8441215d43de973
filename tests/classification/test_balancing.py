"""Training on skewed classes: what is added, weighed and expected."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from fl_app.classification.balancing import Balanced, Replay, missing_images, oversampled, surest
from fl_app.classification.task import ClassificationTask
from fl_app.data.images import Batch, DatasetInfo, ImageSet
from fl_app.options.run import PassPlan
from tests.options import run_config

CLASSES = ("a", "b", "c")


def images(*counts: int) -> ImageSet:
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    pixels = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8).contiguous()
    return ImageSet(pixels, labels, CLASSES)


def task(**options: object) -> ClassificationTask:
    named = {f"classification.{name.replace('_', '-')}": value for name, value in options.items()}
    config = run_config({"classification.embedding-size": 4, **named})  # type: ignore[dict-item]
    return ClassificationTask(PassPlan("classification", config.classification), DatasetInfo(CLASSES, 1, 8))


@pytest.mark.parametrize(
    ("counts", "ratio", "most", "missing"),
    [
        ([10, 4, 0], 1.0, 100, [0, 6, 10]),
        ([10, 4, 0], 0.5, 100, [0, 1, 5]),
        ([10, 4, 0], 1.0, 7, [0, 6, 7]),
        ([0, 0, 0], 1.0, 7, [0, 0, 0]),
    ],
)
def test_classes_are_topped_up_to_a_part_of_the_largest_one(
    counts: list[int], ratio: float, most: int, missing: list[int]
) -> None:
    assert missing_images(np.array(counts), ratio, most).tolist() == missing


def test_a_batch_keeps_its_own_images_and_gets_further_ones_in_proportion() -> None:
    own = Batch(torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64))
    found = Replay(images(0, 5, 5), 1.5).beside(own, torch.Generator().manual_seed(0))
    assert len(found) == 10 and torch.equal(found.images[:4], own.images) and torch.equal(found.labels[:4], own.labels)
    assert set(found.labels[4:].tolist()) <= {1, 2}
    again = Replay(images(0, 5, 5), 1.5).beside(own, torch.Generator().manual_seed(0))
    assert torch.equal(found.images, again.images)
    assert Replay(images(0, 0, 0), 1.5).beside(own, torch.Generator()) is own


def test_few_further_images_beside_many_own_ones_are_trained_on_as_often_as_they_should() -> None:
    own, generator = (
        Batch(torch.zeros(16, 1, 8, 8), torch.zeros(16, dtype=torch.int64)),
        torch.Generator().manual_seed(0),
    )
    replay = Replay(images(0, 5, 5), 1000 / 60_000)
    further = [len(replay.beside(own, generator)) - 16 for _ in range(4000)]
    assert set(further) == {0, 1} and np.mean(further) == pytest.approx(16 / 60, abs=0.03)


def test_oversampling_repeats_rare_classes_and_none_with_very_few_images() -> None:
    found = oversampled(images(10, 4, 1), 1.0, fewest=2)
    assert found.images.class_counts().tolist() == [0, 6, 0] and found.per_own == pytest.approx(6 / 15)
    assert oversampled(images(10, 4, 1), 1.0, fewest=1).images.class_counts().tolist() == [0, 6, 9]
    assert len(oversampled(images(5, 5, 5), 1.0, fewest=1).images) == 0


def test_class_weights_make_each_held_class_weigh_the_same() -> None:
    weighed, batch = (
        Balanced(task(replay="class-weights"), np.array([10, 4, 1]), fewest=2),
        Batch(torch.zeros(15, 1, 8, 8), images(10, 4, 1).labels),
    )
    model = weighed.task.build_model()
    ratio = (weighed.losses(model, batch) / weighed.task.losses(model, batch)).tolist()
    assert ratio[0] * 10 == pytest.approx(ratio[10] * 4) and ratio[14] == pytest.approx(1.0)


def test_adjusted_scores_are_those_of_the_class_shares_and_leave_out_what_the_node_lacks() -> None:
    adjusted, counts = Balanced(task(replay="logit-adjusted"), np.array([6, 2, 0]), fewest=1), torch.tensor([6.0, 2.0])
    batch = Batch(torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 1]))
    model = adjusted.task.build_model()
    expected = functional.cross_entropy(model(batch.images)[:, :2] + (counts / 8).log(), batch.labels, reduction="none")
    torch.testing.assert_close(adjusted.losses(model, batch), expected)
    adjusted.losses(model, batch).sum().backward()
    assert all(torch.isfinite(one.grad).all() for one in model.parameters() if one.grad is not None)


def test_smoothed_labels_are_those_of_torch() -> None:
    smooth, batch = task(label_smoothing=0.1), Batch(torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 2]))
    model = smooth.build_model()
    expected = functional.cross_entropy(model(batch.images), batch.labels, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(smooth.losses(model, batch), expected)


def test_the_images_that_the_classifier_is_surest_of_are_kept_of_each_class() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1])
    found = surest(np.array([0.1, 0.9, 0.5, 0.7, 0.2, 0.1]), labels, 0.5)
    assert found.tolist() == [1, 3, 4]
    assert surest(np.zeros(0), np.zeros(0, dtype=np.int64), 0.5).tolist() == []
    assert surest(np.array([0.3]), np.array([2]), 0.1).tolist() == [0]
