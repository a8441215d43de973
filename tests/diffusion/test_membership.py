"""Scores of single images: they depend on the image and the model alone, and are low for images known by heart."""

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel

from fl_app.data.digits import read_digits
from fl_app.data.images import ImageSet
from fl_app.data.sources import dataset_info
from fl_app.diffusion.membership import image_scores, score_histograms
from fl_app.diffusion.process import noise_schedule
from fl_app.metrics.membership import PARTS, SCORES, blank_histograms, judge_membership
from fl_app.node.training import Progress, train_local
from fl_app.seeding import generator_for
from fl_app.tasks import build_task, initial_weights
from tests.options import run_config

CPU = torch.device("cpu")
SCHEDULE = noise_schedule(1000)


def some(first: int, last: int) -> ImageSet:
    return read_digits("train").select(torch.arange(first, last))


@pytest.fixture(scope="module")
def model() -> UNet2DModel:
    """A small U-Net that was trained long on the first 24 digits."""
    config = run_config(
        {
            "diffusion.block-channels": "8,16",
            "diffusion.mid-attention": False,
            "diffusion.num-rounds": 1,
            "diffusion.epochs": 200.0,
            "diffusion.learning-rate": 4e-3,
        }
    )
    task = build_task("diffusion", config, dataset_info(config.data))
    network = task.build_model()
    network.load_state_dict(initial_weights(task, 0))
    train_local(
        network,
        task,
        some(0, 24),
        config.diffusion,
        Progress(1, 1),
        device=CPU,
        order=lambda epoch: generator_for(0, "site", epoch, "order"),
        noise=generator_for(0, "site", 1, "noise"),
    )
    assert isinstance(network, UNet2DModel)
    return network


def test_a_score_depends_neither_on_the_batch_nor_on_the_other_images(model: UNet2DModel) -> None:
    whole = image_scores(model, some(0, 30), SCHEDULE, CPU)
    for batch_size in (1, 7, 64):
        one = image_scores(model, some(0, 30), SCHEDULE, CPU, batch_size)
        part = image_scores(model, some(11, 30), SCHEDULE, CPU, batch_size)
        for score in SCORES:
            np.testing.assert_allclose(one[score], whole[score], rtol=1e-4)
            np.testing.assert_allclose(part[score], whole[score][11:], rtol=1e-4)


def test_the_scores_of_a_model_are_the_same_in_every_process_and_leave_torchs_own_generator_alone(
    model: UNet2DModel,
) -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    one = image_scores(model, some(0, 5), SCHEDULE, CPU)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    other = image_scores(model.train(), some(0, 5), SCHEDULE, CPU)
    assert all(np.array_equal(one[score], other[score]) for score in SCORES)


def test_histograms_of_split_images_add_up_to_those_of_all(model: UNet2DModel) -> None:
    nothing = some(0, 0)

    def counts(train: ImageSet, held_out: ImageSet) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
        parts = {"train": train, "validation": held_out, "test": nothing}
        return score_histograms(model, parts, SCHEDULE, CPU, most=100)

    whole = counts(some(0, 24), some(24, 60))
    split = [counts(some(0, 9), some(24, 25)), counts(some(9, 24), some(25, 60))]
    assert whole.keys() == blank_histograms().keys()
    for key, value in whole.items():
        assert np.array_equal(value, split[0][key] + split[1][key])
    assert [whole[f"loss/{part}"].sum() for part in PARTS] == [24, 36, 0]


def test_of_a_larger_part_evenly_spaced_images_are_scored(model: UNet2DModel) -> None:
    parts = {"train": some(0, 31), "validation": some(40, 44), "test": some(0, 0)}
    found = score_histograms(model, parts, SCHEDULE, CPU, most=4)
    expected = read_digits("train").select(torch.tensor([0, 10, 20, 30]))
    alone = score_histograms(model, {**parts, "train": expected}, SCHEDULE, CPU, most=4)
    assert [found[f"sima/{part}"].sum() for part in PARTS] == [4, 4, 0]
    assert all(np.array_equal(found[key], alone[key]) for key in found)


def test_a_model_that_knows_its_images_by_heart_exceeds_the_limit_and_an_untrained_one_passes(
    model: UNet2DModel,
) -> None:
    parts = {"train": some(0, 24), "validation": some(24, 124), "test": some(124, 224)}
    found = judge_membership({"a": score_histograms(model, parts, SCHEDULE, CPU, 500)}, 0.65)
    assert found.verdict == "exceeded", found.reason
    for score in found.scores.values():
        assert score.auc is not None and score.auc > 0.85
        assert score.control_auc == pytest.approx(0.5, abs=0.1)
    config = run_config({"diffusion.block-channels": "8,16", "diffusion.mid-attention": False})
    fresh = build_task("diffusion", config, dataset_info(config.data)).build_model()
    parts = {"train": some(224, 524), "validation": some(524, 824), "test": some(0, 0)}
    unknown = judge_membership({"a": score_histograms(fresh, parts, SCHEDULE, CPU, 500)}, 0.65)
    assert unknown.verdict == "passed", unknown.reason


@pytest.mark.parametrize("num_timesteps", [1, 4])
def test_schedules_of_few_timesteps_have_scores_too(model: UNet2DModel, num_timesteps: int) -> None:
    found = image_scores(model, some(0, 3), noise_schedule(num_timesteps), CPU)
    assert all(values.shape == (3,) and np.isfinite(values).all() for values in found.values())
