"""How well a diffusion model knows single images: two scores, small for an image that it has by heart."""

from collections.abc import Mapping

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from numpy.typing import NDArray
from torch import Tensor

from fl_app.accumulation import compute_in_pieces
from fl_app.data.images import Batch, ImageSet
from fl_app.data.loading import iterate, place
from fl_app.diffusion.process import Noise, NoisyBatch, alphas, denoising_losses
from fl_app.metrics.membership import PARTS, SCORES, histogram
from fl_app.seeding import generator_for

LOSS_LEVELS = (0.05, 0.1, 0.2, 0.3)  # timesteps as shares of T
NUM_DRAWS = 2  # of noise, at each level
SIMA_LEVEL = 0.1
BATCH_SIZE = 128


@torch.no_grad()
def image_scores(
    unet: UNet2DModel, images: ImageSet, schedule: DDPMScheduler, device: torch.device, batch_size: int = BATCH_SIZE
) -> dict[str, NDArray[np.float64]]:
    """Score each image, with its own label.

    `loss` is the denoising loss, as the error in eps, its mean over four noise levels and two draws of noise (as in
    Carlini et al. 2023, arXiv:2301.13188). `sima` is the root mean square of the noise that the network predicts in the
    image without any noise, alpha_t x, at a small t (Rao et al. 2025, arXiv:2509.25003). Every image gets the same
    draws, so an image's scores depend neither on the batch nor on the set that it is in.

    Args:
        unet: predicts v, on the device.
        images: N images.
        schedule: of the training.
        device: where to compute.
        batch_size: images scored at once.

    Returns:
        `loss` and `sima`, [N] float64 each; lower if the model knows the image better.
    """
    unet.eval()
    alpha_of = alphas(schedule, device)
    last = len(alpha_of) - 1
    found: dict[str, list[Tensor]] = {score: [] for score in SCORES}
    for batch in iterate(place(images, device), batch_size, device):
        losses = torch.zeros(len(batch), dtype=torch.float64)
        for level in LOSS_LEVELS:
            for draw in range(NUM_DRAWS):
                losses += _losses(unet, batch, min(round(level * (last + 1)), last), draw, alpha_of)
        found["loss"].append(losses / (len(LOSS_LEVELS) * NUM_DRAWS))
        found["sima"].append(_sima(unet, batch, min(round(SIMA_LEVEL * (last + 1)), last), alpha_of))
    return {score: torch.cat(parts).numpy() if parts else np.zeros(0) for score, parts in found.items()}


def score_histograms(
    unet: UNet2DModel, parts: Mapping[str, ImageSet], schedule: DDPMScheduler, device: torch.device, most: int
) -> dict[str, NDArray[np.float64]]:
    """Count the images of each part by score; of a larger part, `most` evenly spaced images.

    Returns:
        As `metrics.membership.blank_histograms`.
    """
    counts = {}
    for part in PARTS:
        number = len(parts[part])
        chosen = parts[part].select(torch.linspace(0, max(number - 1, 0), min(number, most)).long())
        for score, values in image_scores(unet, chosen, schedule, device).items():
            counts[f"{score}/{part}"] = histogram(values)
    return {f"{score}/{part}": counts[f"{score}/{part}"] for score in SCORES for part in PARTS}


def _losses(unet: UNet2DModel, batch: Batch, timestep: int, draw: int, alpha_of: Tensor) -> Tensor:
    """Return the error in eps of each image at a noise level: [B] float64, on the host."""
    generator = generator_for(0, "membership", draw, f"timestep-{timestep}")  # on the CPU: the same on every device
    eps = torch.randn(1, *batch.images.shape[1:], generator=generator).to(batch.images.device)
    noise = Noise(
        timesteps=torch.full_like(batch.labels, timestep),
        eps=eps.expand_as(batch.images),
        hidden=torch.zeros_like(batch.labels, dtype=torch.bool),
    )
    noisy = NoisyBatch(batch.images, batch.labels, noise)
    return compute_in_pieces(lambda part: denoising_losses(unet, noisy[part], alpha_of).double(), len(batch))


def _sima(unet: UNet2DModel, batch: Batch, timestep: int, alpha_of: Tensor) -> Tensor:
    """Return the root mean square of eps = alpha v + sigma x_t, predicted for x_t = alpha x: [B] float64."""
    alpha = alpha_of[timestep]
    sigma = (1.0 - alpha**2).sqrt()

    def score(part: slice) -> Tensor:
        x_t = alpha * batch.images[part]
        timesteps = torch.full_like(batch.labels[part], timestep)
        v = unet(x_t, timesteps, class_labels=batch.labels[part], return_dict=False)[0].float()
        eps = alpha * v + sigma * x_t
        found: Tensor = eps.flatten(1).double().square().mean(1).sqrt()
        return found

    return compute_in_pieces(score, len(batch))
