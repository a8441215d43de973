"""Features of a U-Net: what its middle block says of an image, averaged over space."""

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from numpy.typing import NDArray
from torch import Tensor, nn

from fl_app.accumulation import compute_in_pieces
from fl_app.data.images import ImageSet
from fl_app.data.loading import iterate, place
from fl_app.diffusion.process import alphas
from fl_app.diffusion.unet import no_class

LEVEL = 0.1  # the timestep as a share of T
BATCH_SIZE = 128


@torch.no_grad()
def middle_features(
    unet: UNet2DModel, images: ImageSet, schedule: DDPMScheduler, device: torch.device, batch_size: int = BATCH_SIZE
) -> NDArray[np.float64] | None:
    """Return activations of the middle block, averaged over space, for each image without its label.

    A diffusion model's activations at a small noise level represent an image well enough to segment it by a few labels
    (Baranchuk et al. 2022, arXiv:2112.03126). The input is alpha_t x without noise, so an image's features depend on
    nothing but its pixels and the weights. With its label, classes lie so far apart that many real images are near
    copies of others of their class (docs/log.md).

    Args:
        unet: predicts v, on the device.
        images: N images.
        schedule: of the training.
        device: where to compute.
        batch_size: images at once.

    Returns:
        [N, D]; None if the network has no middle block, or a feature is not finite.
    """
    if len(images) == 0:  # attention fails on an empty batch, and D is known only from an image
        blank = torch.zeros(1, *images.images.shape[1:], dtype=torch.uint8)
        one = ImageSet(blank, torch.zeros(1, dtype=torch.int64), images.class_names)
        known = middle_features(unet, one, schedule, device)
        return None if known is None else known[:0]
    middle = getattr(unet, "mid_block", None)
    if not isinstance(middle, nn.Module):
        return None
    unet.eval()
    alpha_of = alphas(schedule, device)
    timestep = min(round(LEVEL * len(alpha_of)), len(alpha_of) - 1)
    caught: list[Tensor] = []
    hook = middle.register_forward_hook(lambda module, given, found: caught.append(found))
    try:
        parts = []
        for batch in iterate(place(images, device), batch_size, device):

            def features(part: slice, images: Tensor = batch.images, labels: Tensor = batch.labels) -> Tensor:
                caught.clear()
                timesteps = torch.full_like(labels[part], timestep)
                hidden = torch.full_like(labels[part], no_class(unet))
                unet(alpha_of[timestep] * images[part], timesteps, class_labels=hidden, return_dict=False)
                return caught[-1].double().mean(dim=tuple(range(2, caught[-1].ndim)))

            parts.append(compute_in_pieces(features, len(batch)).numpy())
    finally:
        hook.remove()
    found = np.concatenate(parts)
    return found if np.isfinite(found).all() else None
