"""Laws of the figures that judge generated images, and the tool that reports them."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.features import feature_moments
from benchmarks.judges import pixels_of
from benchmarks.sample_figures import overlap, within_class_std, within_class_variance
from benchmarks.sampler_texture import KnowsTheTexture, sampled_std
from fl_app.diffusion.process import alphas, noise_schedule
from fl_app.metrics.generation import frechet_distance


def features(seed: int, count: int = 300, scale: float = 1.0) -> NDArray[np.float64]:
    return scale * np.random.default_rng(seed).standard_normal((count, 4))


def test_a_set_overlaps_with_itself_wholly() -> None:
    found = overlap(features(0), features(0))
    assert (found.precision, found.recall, found.coverage) == (1.0, 1.0, 1.0)


def test_sets_that_lie_far_apart_do_not_overlap() -> None:
    found = overlap(features(0), features(1) + 100.0)
    assert (found.precision, found.recall, found.coverage) == (0.0, 0.0, 0.0)


def test_a_set_that_collapses_to_the_centre_keeps_precision_and_loses_recall_and_coverage() -> None:
    honest, collapsed = overlap(features(0), features(1)), overlap(features(0), features(1, scale=0.1))
    assert collapsed.precision >= honest.precision > 0.7
    assert honest.recall > 0.7 and honest.coverage > 0.7
    assert collapsed.recall < 0.1 and collapsed.coverage < 0.5


def test_a_set_that_spreads_too_far_keeps_recall_and_loses_precision() -> None:
    honest, spread = overlap(features(0), features(1)), overlap(features(0), features(1, scale=5.0))
    assert spread.recall > 0.9
    assert spread.precision < 0.5 * honest.precision


def test_one_outlier_among_the_samples_lifts_recall_but_not_coverage() -> None:
    real, line = features(0), np.linspace(100.0, 101.0, 20)[:, None] * np.ones(4)
    far = np.concatenate([line, [[-100.0] * 4]])
    found = overlap(real, far)
    assert found.recall == 1.0  # the outlier's ball reaches over all real images
    assert found.coverage == 0.0 and found.precision == 0.0


def test_overlap_by_hand_on_a_line() -> None:
    real = np.arange(8.0)[:, None]  # third neighbours 3 2 2 2 2 2 2 3 away, fifth ones 5 4 3 3 3 3 4 5
    generated = np.array([[-3.0], [-3.5], [-4.0], [-4.5], [3.0]])  # third neighbours 1.5 1 1 1.5 7 away
    found = overlap(real, generated)
    assert found.precision == 2 / 5  # -3 lies 3 from 0; 3 is a real image
    assert found.recall == 1.0  # the ball of 3 reaches from -4 to 10
    assert found.coverage == 1.0


def test_real_images_further_from_each_other_than_from_a_sample_are_covered() -> None:
    real = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [100.0]])
    found = overlap(real, np.array([[100.5], [101.0], [102.0], [103.0]]))
    assert found.coverage == 1 / 7
    assert found.recall == 1 / 7  # 101 has its third neighbour at distance 2
    assert found.precision == 1.0  # the ball of 100 reaches to its third neighbour, 3


def test_within_class_std_and_variance_by_hand() -> None:
    pixels = np.array([[0.0, 0.0], [2.0, 0.0], [5.0, 1.0], [5.0, 7.0], [5.0, 1.0], [5.0, 7.0]])
    labels = np.array([0, 0, 3, 3, 3, 3])
    assert within_class_std(pixels, labels) == pytest.approx((0.5 + 1.5) / 2)  # stds 1 0 and 0 3
    assert within_class_variance(pixels, labels) == pytest.approx((1.0 + 9.0) / 2)


def test_the_distance_between_classes_is_no_std_within_them() -> None:
    labels = np.arange(300) % 3
    moved = features(0) + 50.0 * labels[:, None]
    assert within_class_std(moved, labels) == pytest.approx(within_class_std(features(0), labels))


def test_equal_sets_have_no_frechet_distance() -> None:
    assert frechet_distance(feature_moments(features(0)), feature_moments(features(0))) == pytest.approx(0.0, abs=1e-9)


def test_white_and_black_are_16_and_0_in_the_units_of_the_figures() -> None:
    assert pixels_of(torch.tensor([[[[255, 0]]]], dtype=torch.uint8)).tolist() == [[16.0, 0.0]]


def test_the_texture_model_predicts_v_of_the_best_linear_guess() -> None:
    std, step = 0.3, torch.tensor(400)
    generator = torch.Generator().manual_seed(0)
    x = std * torch.randn(64, 1, 32, 32, generator=generator)
    eps = torch.randn(x.shape, generator=generator)
    alpha = alphas(noise_schedule(1000))[step]
    sigma = (1 - alpha**2).sqrt()
    x_t, v = alpha * x + sigma * eps, alpha * eps - sigma * x
    slope = (v * x_t).sum() / (x_t * x_t).sum()  # least squares; for Gaussian pixels no other guess is better
    found = KnowsTheTexture(std, 32)(x_t, step, torch.zeros(64), return_dict=False)[0]
    torch.testing.assert_close(found, slope * x_t, atol=0.02, rtol=0.0)


def test_ancestral_sampling_with_every_step_keeps_texture() -> None:
    found, evaluations = sampled_std("ancestral", 1000, 0.2, num_images=8, side=32)
    assert found == pytest.approx(0.2, rel=0.03)
    assert evaluations == 1000
