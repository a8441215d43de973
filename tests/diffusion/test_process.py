import math

import pytest
import torch
from torch import Tensor, nn

from fl_app.data.images import Batch, DatasetInfo
from fl_app.diffusion.process import (
    NUM_BANDS,
    Noise,
    NoisyBatch,
    alphas,
    band_of,
    denoising_losses,
    draw_noise,
    noise_schedule,
)
from fl_app.diffusion.unet import build_unet, no_class

INFO = DatasetInfo(("a", "b", "c"), 1, 8)


class Remembering(nn.Module):
    """Answers every call with fixed numbers, and remembers the labels it was given."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer
        self.config = type("Config", (), {"num_class_embeds": 4})()

    def forward(self, x: Tensor, t: Tensor, class_labels: Tensor, return_dict: bool) -> tuple[Tensor]:
        self.x, self.labels = x, class_labels
        return (self.answer,)


def noisy(batch: Batch, noise: Noise) -> NoisyBatch:
    return NoisyBatch(batch.images, batch.labels, noise)


def batch_of(size: int) -> Batch:
    return Batch(torch.rand(size, 1, 8, 8) * 2 - 1, torch.arange(size) % 3)


def test_the_weighted_v_loss_is_the_mean_squared_error_in_eps() -> None:
    torch.manual_seed(0)
    batch, alpha_of = batch_of(16), alphas(noise_schedule(1000))
    noise = draw_noise(batch, 1000, 0.0, torch.Generator().manual_seed(1))
    model = Remembering(torch.randn(16, 1, 8, 8))
    losses = denoising_losses(model, noisy(batch, noise), alpha_of)
    alpha = alpha_of[noise.timesteps].view(-1, 1, 1, 1)
    eps_hat = alpha * model.answer + (1 - alpha**2).sqrt() * model.x
    torch.testing.assert_close(losses, ((eps_hat - noise.eps) ** 2).flatten(1).mean(1), rtol=1e-4, atol=1e-6)


def test_the_other_weights_are_the_plain_v_loss_and_the_image_loss_with_a_bounded_snr() -> None:
    torch.manual_seed(0)
    batch, alpha_of = batch_of(64), alphas(noise_schedule(1000))
    noise = draw_noise(batch, 1000, 0.0, torch.Generator().manual_seed(1))
    model = Remembering(torch.randn(64, 1, 8, 8))
    alpha = alpha_of[noise.timesteps].view(-1, 1, 1, 1)
    sigma = (1 - alpha**2).sqrt()
    v_losses = denoising_losses(model, noisy(batch, noise), alpha_of, "v")
    v = alpha * noise.eps - sigma * batch.images
    torch.testing.assert_close(v_losses, ((model.answer - v) ** 2).flatten(1).mean(1))
    x_hat = alpha * model.x - sigma * model.answer
    snr = (alpha**2 / sigma**2).flatten().clamp(max=5.0)
    expected = snr * ((x_hat - batch.images) ** 2).flatten(1).mean(1)
    found = denoising_losses(model, noisy(batch, noise), alpha_of, "min-snr")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_perfect_prediction_has_no_loss() -> None:
    batch, alpha_of = batch_of(4), alphas(noise_schedule(1000))
    noise = draw_noise(batch, 1000, 0.0, torch.Generator().manual_seed(1))
    alpha = alpha_of[noise.timesteps].view(-1, 1, 1, 1)
    v = alpha * noise.eps - (1 - alpha**2).sqrt() * batch.images
    assert denoising_losses(Remembering(v), noisy(batch, noise), alpha_of).abs().max() < 1e-10


def test_the_schedule_is_the_papers_log_snr() -> None:
    """Tun et al. 2023: logSNR(t) = -log(expm1(1e-4 + 10 t^2)), the continuous limit of the linear betas."""
    alpha = alphas(noise_schedule(1000)).double()
    log_snr = (alpha**2 / (1 - alpha**2)).log()
    t = (torch.arange(1000, dtype=torch.float64) + 1) / 1000
    expected = -torch.log(torch.expm1(1e-4 + 10 * t**2))
    assert (log_snr - expected).abs()[
        20:
    ].max() < 0.35  # of a range of 19; the rest is the step from 1000 betas to a limit


@pytest.mark.parametrize("num_timesteps", [50, 1000])
def test_any_number_of_timesteps_ends_in_noise(num_timesteps: int) -> None:
    assert alphas(noise_schedule(num_timesteps))[-1] ** 2 < 1e-3


def test_hidden_labels_become_no_class() -> None:
    batch = batch_of(4)
    noise = Noise(torch.zeros(4, dtype=torch.int64), torch.zeros(4, 1, 8, 8), torch.tensor([True, False, True, False]))
    model = Remembering(torch.zeros(4, 1, 8, 8))
    denoising_losses(model, noisy(batch, noise), alphas(noise_schedule(1000)))
    assert model.labels.tolist() == [3, 1, 3, 0]


def test_labels_are_hidden_as_often_as_asked() -> None:
    noise = draw_noise(batch_of(3000), 10, 0.1, torch.Generator().manual_seed(0))
    assert 0.08 < noise.hidden.float().mean() < 0.12
    assert not draw_noise(batch_of(300), 10, 0.0, torch.Generator().manual_seed(0)).hidden.any()


def test_timesteps_of_a_batch_are_spread_evenly_and_each_is_uniform() -> None:
    noise = draw_noise(batch_of(100), 1000, 0.0, torch.Generator().manual_seed(0))
    assert noise.timesteps.sort().values.diff().max() <= 11
    firsts = [int(draw_noise(batch_of(1), 4, 0.0, torch.Generator().manual_seed(s)).timesteps) for s in range(400)]
    counts = torch.bincount(torch.tensor(firsts), minlength=4)
    assert counts.min() > 70 and counts.max() < 130


def test_bands_cut_the_timesteps_into_equal_parts() -> None:
    bands = band_of(torch.arange(1000), 1000)
    assert torch.bincount(bands).tolist() == [1000 // NUM_BANDS] * NUM_BANDS


def test_losses_come_back_per_image() -> None:
    torch.manual_seed(0)
    unet = build_unet(INFO, (8, 8), 1, True)
    noise = draw_noise(batch_of(5), 1000, 0.1, torch.Generator().manual_seed(0))
    losses = denoising_losses(unet, noisy(batch_of(5), noise), alphas(noise_schedule(1000)))
    assert losses.shape == (5,) and losses.dtype == torch.float32
    assert math.isfinite(float(losses.detach().sum()))
    assert no_class(unet) == 3
