"""The noise process and its loss.

With alpha_t^2 + sigma_t^2 = 1 an image x becomes x_t = alpha_t x + sigma_t eps (Ho et al. 2020, eq. 4). The network
predicts v = alpha_t eps - sigma_t x (Salimans & Ho 2022, app. D). Then eps = alpha_t v + sigma_t x_t, so that the
v-error weighted by alpha_t^2 is the plain error in eps, which Tun et al. (2023) train on.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor

from fl_app.data.images import Batch
from fl_app.diffusion.unet import no_class

NUM_BANDS = 4
MIN_SNR_GAMMA = 5.0  # as its authors recommend

LossWeight = Literal["eps", "v", "min-snr"]


@dataclass(frozen=True)
class Noise:
    """The random part of a loss.

    Attributes:
        timesteps: [B] int64 in [0, T).
        eps: [B, C, H, W] float32, standard normal.
        hidden: [B] bool, where the label is hidden.
    """

    timesteps: Tensor
    eps: Tensor
    hidden: Tensor

    def __getitem__(self, part: slice) -> "Noise":
        return Noise(self.timesteps[part], self.eps[part], self.hidden[part])


@dataclass(frozen=True)
class NoisyBatch(Batch):
    """A batch and the random part of its loss; a slice of it keeps each image's own draw."""

    noise: Noise

    def __getitem__(self, part: slice) -> "NoisyBatch":
        return NoisyBatch(self.images[part], self.labels[part], self.noise[part])


def noise_schedule(num_timesteps: int) -> DDPMScheduler:
    """Return DDPM's linear schedule, its betas scaled so that any T ends in the same noise as T = 1000."""
    return DDPMScheduler(
        num_train_timesteps=num_timesteps,
        beta_start=min(0.1 / num_timesteps, 0.999),
        beta_end=min(20.0 / num_timesteps, 0.999),
        beta_schedule="linear",
        prediction_type="v_prediction",
        clip_sample=True,
    )


def alphas(schedule: DDPMScheduler, device: torch.device | str = "cpu") -> Tensor:
    """Return alpha_t of every timestep: [T] float32 in (0, 1)."""
    alpha: Tensor = schedule.alphas_cumprod.to(device).sqrt()
    return alpha


def draw_noise(batch: Batch, num_timesteps: int, label_dropout: float, generator: torch.Generator) -> Noise:
    """Draw timesteps, noise and hidden labels for a batch.

    The timesteps are stratified: one uniform shift serves the whole batch, which lowers the variance of its mean loss
    without changing its expectation (Kingma et al. 2021, app. I.1).

    Args:
        batch: B images.
        num_timesteps: T.
        label_dropout: chance that a label is hidden.
        generator: lives on the batch's device.
    """
    size, device = len(batch), batch.images.device
    shift = torch.rand(1, generator=generator, device=device)
    positions = (shift + torch.arange(size, device=device) / size) % 1.0
    return Noise(
        timesteps=(positions * num_timesteps).long().clamp(max=num_timesteps - 1),
        eps=torch.randn(batch.images.shape, generator=generator, device=device),
        hidden=torch.rand(size, generator=generator, device=device) < label_dropout,
    )


def denoising_losses(unet: UNet2DModel, batch: NoisyBatch, alpha_of: Tensor, weight: LossWeight = "eps") -> Tensor:
    """Return the loss of each image: the mean squared error in v, weighted by its noise level.

    Args:
        unet: predicts v from (x_t, t, label).
        batch: B images and their draws.
        alpha_of: [T], from `alphas`, on the batch's device.
        weight: `eps`: alpha_t^2, which makes it the error in eps (Tun et al. 2023); `v`: 1 (Salimans & Ho 2022);
            `min-snr`: min(SNR, 5) / (SNR + 1), the error in x weighted by the SNR, but at most 5 (Hang et al. 2023,
            eq. 5 for v).

    Returns:
        [B] float32, mean over channels and pixels.
    """
    noise = batch.noise
    alpha = alpha_of[noise.timesteps].view(-1, 1, 1, 1)
    sigma = (1.0 - alpha**2).sqrt()
    x_t = alpha * batch.images + sigma * noise.eps
    v = alpha * noise.eps - sigma * batch.images
    labels = torch.where(noise.hidden, no_class(unet), batch.labels)
    v_hat = unet(x_t, noise.timesteps, class_labels=labels, return_dict=False)[0].float()
    if weight == "eps":
        factor = alpha**2
    elif weight == "v":
        factor = torch.ones_like(alpha)
    else:  # SNR = alpha^2 / sigma^2 and alpha^2 + sigma^2 = 1: min(SNR, gamma) / (SNR + 1) without a division by sigma
        factor = torch.minimum(alpha**2, MIN_SNR_GAMMA * (1.0 - alpha**2))
    losses: Tensor = (factor * (v_hat - v) ** 2).flatten(1).mean(1)
    return losses


def band_of(timesteps: Tensor, num_timesteps: int) -> Tensor:
    """Return the noise band of each timestep, 0 (least noise) to NUM_BANDS - 1: [B] int64."""
    return timesteps * NUM_BANDS // num_timesteps
